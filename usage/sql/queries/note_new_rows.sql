-- Note the rows that the refresh of this transaction wrote into the view of the open days.
%(_note)s
SELECT
    subscription_id,
    day,
    usage_type,
    total_price,
    total_usage,
    record_count
FROM usage_daily_open_touched_by(pg_current_xact_id())
