-- One row per subscription, day and usage type: the view that every reader uses.
-- Sources: usage_daily_sealed (sealed days), usage_daily_open (open days).
-- Why: the two never overlap, so a plain UNION ALL is exact. It runs in parallel, and PostgreSQL
-- pushes every condition down to the indexes.

CREATE OR REPLACE VIEW usage_daily AS
SELECT
    subscription_id,
    day,
    usage_type,
    total_price,
    total_usage,
    record_count,
    last_usage_at
FROM usage_daily_sealed
UNION ALL
SELECT
    subscription_id,
    day,
    usage_type,
    total_price,
    total_usage,
    record_count,
    last_usage_at
FROM usage_daily_open;

COMMENT ON VIEW usage_daily IS
'Totals by subscription, day and usage type, as of usage_state.as_of. No row without usage.';
COMMENT ON COLUMN usage_daily.subscription_id IS
'The subscription (usage_subscription.id).';
COMMENT ON COLUMN usage_daily.day IS
'The day of usage in the time zone of the deployment.';
COMMENT ON COLUMN usage_daily.usage_type IS
'data or voice.';
COMMENT ON COLUMN usage_daily.total_price IS
'Sum of prices, exact, in the currency of the deployment.';
COMMENT ON COLUMN usage_daily.total_usage IS
'Sum of quantities: kilobytes for data, seconds for voice.';
COMMENT ON COLUMN usage_daily.record_count IS
'Number of raw records in the totals.';
COMMENT ON COLUMN usage_daily.last_usage_at IS
'Moment of the last usage in the totals.';

DO $do$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_analyst') THEN
        GRANT SELECT ON usage_daily TO usage_analyst;
    END IF;
END
$do$;
