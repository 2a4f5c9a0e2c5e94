-- Refresh the view of the open days and note the rows that the refresh replaces or removes.
-- The statement still sees these rows, because its snapshot is older than the refresh.
%(_note)s
SELECT
    gone.subscription_id,
    gone.day,
    gone.usage_type,
    -gone.total_price,
    -gone.total_usage,
    -gone.record_count
FROM usage_refresh_daily_open() AS refreshed (transaction_id)
CROSS JOIN LATERAL usage_daily_open_touched_by(refreshed.transaction_id) AS gone
