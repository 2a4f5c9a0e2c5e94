-- One row per subscription, month and usage type, as of the last refresh.
-- Source: usage_period_total, without its rows for all days.
-- Why: readers get a month without adding up its days, and don't depend on the table.

CREATE OR REPLACE VIEW usage_monthly AS
SELECT
    subscription_id,
    period AS month,
    usage_type,
    total_price,
    total_usage,
    record_count
FROM usage_period_total
WHERE period <> '0001-01-01';

COMMENT ON VIEW usage_monthly IS
'Totals by subscription, month and usage type: the sums of the days of usage_daily.';
COMMENT ON COLUMN usage_monthly.subscription_id IS
'The subscription (usage_subscription.id).';
COMMENT ON COLUMN usage_monthly.month IS
'The first day of the month.';
COMMENT ON COLUMN usage_monthly.usage_type IS
'data or voice.';
COMMENT ON COLUMN usage_monthly.total_price IS
'Sum of prices, exact, in the currency of the deployment.';
COMMENT ON COLUMN usage_monthly.total_usage IS
'Sum of quantities: kilobytes for data, seconds for voice.';
COMMENT ON COLUMN usage_monthly.record_count IS
'Number of raw records in the totals.';

DO $do$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_analyst') THEN
        GRANT SELECT ON usage_monthly TO usage_analyst;
    END IF;
END
$do$;
