-- One row per subscription, day and usage type, over all raw records.
-- Sources: usage_datausagerecord, usage_voiceusagerecord.
-- Why: everybody reads daily totals, and nobody should add up raw records to get them.

CREATE MATERIALIZED VIEW usage_daily_open AS
WITH data_records AS (
    SELECT
        subscription_id,
        usage_day(usage_date) AS day,
        price,
        kilobytes_used,
        usage_date
    FROM usage_datausagerecord
),

voice_records AS (
    SELECT
        subscription_id,
        usage_day(usage_date) AS day,
        price,
        seconds_used,
        usage_date
    FROM usage_voiceusagerecord
),

data_daily AS (
    SELECT
        subscription_id,
        day,
        sum(price) AS total_price,
        sum(kilobytes_used)::bigint AS total_usage,
        count(*) AS record_count,
        max(usage_date) AS last_usage_at
    FROM data_records
    GROUP BY subscription_id, day
),

voice_daily AS (
    SELECT
        subscription_id,
        day,
        sum(price) AS total_price,
        sum(seconds_used)::bigint AS total_usage,
        count(*) AS record_count,
        max(usage_date) AS last_usage_at
    FROM voice_records
    GROUP BY subscription_id, day
)

SELECT
    subscription_id,
    day,
    'data'::text AS usage_type,
    total_price,
    total_usage,
    record_count,
    last_usage_at,
    -- A concurrent refresh checks rows without a NULL for duplicates, which costs more than the
    -- rest of it. A NULL in each row spares that check; the unique index still refuses duplicates.
    NULL::boolean AS always_null
FROM data_daily
UNION ALL
SELECT
    subscription_id,
    day,
    'voice'::text AS usage_type,
    total_price,
    total_usage,
    record_count,
    last_usage_at,
    NULL::boolean AS always_null
FROM voice_daily;

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
