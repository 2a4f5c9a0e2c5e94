-- At most one row: the totals of one subscription, day and usage type from its raw records.
-- Sources: usage_datausagerecord, usage_voiceusagerecord.
-- Why: the repair of late keys and live totals must compute the same totals. PostgreSQL inlines the
-- function into a LATERAL join, so each key costs a few pages of the primary key of one partition.

CREATE FUNCTION usage_totals_of_key(
    wanted_subscription_id bigint, wanted_day date, wanted_type text
)
RETURNS TABLE (
    total_price numeric,
    total_usage bigint,
    record_count bigint,
    last_usage_at timestamptz
)
LANGUAGE sql STABLE PARALLEL SAFE
AS $body$
    SELECT
        sum(record.price) AS total_price,
        sum(record.kilobytes_used)::bigint AS total_usage,
        count(*) AS record_count,
        max(record.usage_date) AS last_usage_at
    FROM usage_datausagerecord AS record
    WHERE
        wanted_type = 'data'
        AND record.subscription_id = wanted_subscription_id
        AND record.usage_date >= usage_day_start(wanted_day)
        AND record.usage_date < usage_day_end(wanted_day)
        AND usage_day(record.usage_date) = wanted_day
    HAVING count(*) > 0
    UNION ALL
    SELECT
        sum(record.price) AS total_price,
        sum(record.seconds_used)::bigint AS total_usage,
        count(*) AS record_count,
        max(record.usage_date) AS last_usage_at
    FROM usage_voiceusagerecord AS record
    WHERE
        wanted_type = 'voice'
        AND record.subscription_id = wanted_subscription_id
        AND record.usage_date >= usage_day_start(wanted_day)
        AND record.usage_date < usage_day_end(wanted_day)
        AND usage_day(record.usage_date) = wanted_day
    HAVING count(*) > 0
$body$;

COMMENT ON FUNCTION usage_totals_of_key(bigint, date, text) IS
'Totals of one subscription, day and usage type from the raw records; no row without records.';
