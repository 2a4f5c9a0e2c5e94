-- One row per subscription, day and usage type, computed from the raw records of whole days.
-- Sources: the raw table of each usage type.
-- Why: a seal, a rebuild and an audit of a day must compute the same totals. PostgreSQL inlines the
-- function, so with constant days it skips the partitions of all other days.

CREATE OR REPLACE FUNCTION usage_totals_of_days(first_day date, last_day date)
RETURNS TABLE (
    subscription_id bigint,
    day date,
    usage_type text,
    total_price numeric,
    total_usage bigint,
    record_count bigint,
    last_usage_at timestamptz
)
LANGUAGE sql STABLE PARALLEL SAFE
AS $body$
    -- For each usage type, with UNION ALL between:
    SELECT
        record.subscription_id,
        usage_day(record.usage_date) AS day,
        'data'::text AS usage_type,
        sum(record.price) AS total_price,
        sum(record.kilobytes_used)::bigint AS total_usage,
        count(*) AS record_count,
        max(record.usage_date) AS last_usage_at
    FROM usage_datausagerecord AS record
    WHERE
        record.usage_date >= usage_day_start(first_day)
        AND record.usage_date < usage_day_end(last_day)
        AND usage_day(record.usage_date) BETWEEN first_day AND last_day
    GROUP BY record.subscription_id, usage_day(record.usage_date)
$body$;

COMMENT ON FUNCTION usage_totals_of_days(date, date) IS
'Totals of whole days, both included, from the raw records in the reader''s snapshot.';
