-- One row per subscription, day and usage type, from the raw records of open days.
-- Sources: the raw table of each usage type, usage_state (sealed_before).
-- Why: a refresh reads the open days only, so its cost does not grow with history.

CREATE MATERIALIZED VIEW usage_daily_open AS
-- With the bound as a single value PostgreSQL skips the partitions of sealed days. The bound only
-- narrows the search; usage_day() decides. NULL: no day was ever sealed, so every day is open.
WITH bounds AS (
    SELECT
        coalesce(sealed_before, '-infinity'::date) AS open_from,
        coalesce(usage_day_start(sealed_before), '-infinity'::timestamptz) AS usage_from
    FROM usage_state
)

-- For each usage type, with UNION ALL between:
SELECT
    record.subscription_id,
    usage_day(record.usage_date) AS day,
    'data'::text AS usage_type,
    sum(record.price) AS total_price,
    sum(record.kilobytes_used)::bigint AS total_usage,
    count(*) AS record_count,
    max(record.usage_date) AS last_usage_at,
    -- A concurrent refresh checks rows without a NULL for duplicates, which costs more than the
    -- rest of it. A NULL in each row spares that check; the unique index still refuses duplicates.
    NULL::boolean AS always_null
FROM usage_datausagerecord AS record
WHERE
    record.usage_date >= (SELECT bounds.usage_from FROM bounds)
    AND usage_day(record.usage_date) >= (SELECT bounds.open_from FROM bounds)
GROUP BY record.subscription_id, usage_day(record.usage_date);

CREATE UNIQUE INDEX usage_daily_open_key
ON usage_daily_open (subscription_id, day, usage_type);

COMMENT ON MATERIALIZED VIEW usage_daily_open IS
'Totals by subscription, day and usage type of the open days. Read usage_daily instead.';
COMMENT ON COLUMN usage_daily_open.subscription_id IS
'The subscription (usage_subscription.id).';
COMMENT ON COLUMN usage_daily_open.day IS
'The day of usage in the time zone of the deployment.';
COMMENT ON COLUMN usage_daily_open.usage_type IS
'data or voice.';
COMMENT ON COLUMN usage_daily_open.total_price IS
'Sum of prices, exact, in the currency of the deployment.';
COMMENT ON COLUMN usage_daily_open.total_usage IS
'Sum of quantities: kilobytes for data, seconds for voice.';
COMMENT ON COLUMN usage_daily_open.record_count IS
'Number of raw records in the totals.';
COMMENT ON COLUMN usage_daily_open.last_usage_at IS
'Moment of the last usage in the totals.';
COMMENT ON COLUMN usage_daily_open.always_null IS
'Always NULL: so the concurrent refresh skips its slow check for duplicate rows.';

DO $do$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_analyst') THEN
        GRANT SELECT ON usage_daily_open TO usage_analyst;
    END IF;
END
$do$;
