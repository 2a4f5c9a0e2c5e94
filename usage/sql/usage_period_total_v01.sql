-- One row per subscription, period and usage type; a period is a month, or all days together.
-- Source: usage_daily; each transaction that changes it adds its changes here.
-- Why: the list of who reached a price limit is a range of an index, for any number of daily rows.

CREATE TABLE usage_period_total (
    subscription_id bigint NOT NULL,
    period date NOT NULL CHECK (
        period = '0001-01-01' OR extract(DAY FROM period) = 1
    ),
    usage_type text NOT NULL CHECK (usage_type IN ('data', 'voice')),
    total_price numeric NOT NULL,
    total_usage bigint NOT NULL,
    record_count bigint NOT NULL CHECK (record_count > 0),
    is_largest boolean NOT NULL,
    CONSTRAINT usage_period_total_pkey PRIMARY KEY (subscription_id, period, usage_type)
)
-- Each refresh leaves an old version of every changed row, so the default of a fifth is too much.
WITH (autovacuum_vacuum_scale_factor = 0.05);

-- The largest price comes first, then the subscription. Both columns ascend, so a page is one range
-- that begins after the last row of the page before, even if thousands have the same price.
CREATE INDEX usage_period_total_price
ON usage_period_total (period, usage_type, (-total_price), subscription_id);

-- For queries without a usage type: one entry a subscription, at its type with the largest price.
CREATE INDEX usage_period_total_largest
ON usage_period_total (period, (-total_price), subscription_id) WHERE is_largest;

COMMENT ON TABLE usage_period_total IS
'Totals by subscription, month (and all days) and usage type: sums of usage_daily.';
COMMENT ON COLUMN usage_period_total.subscription_id IS
'The subscription (usage_subscription.id).';
COMMENT ON COLUMN usage_period_total.period IS
'The first day of the month, or 0001-01-01 for all days.';
COMMENT ON COLUMN usage_period_total.usage_type IS
'data or voice.';
COMMENT ON COLUMN usage_period_total.total_price IS
'Sum of prices, exact, in the currency of the deployment.';
COMMENT ON COLUMN usage_period_total.total_usage IS
'Sum of quantities: kilobytes for data, seconds for voice.';
COMMENT ON COLUMN usage_period_total.record_count IS
'Number of raw records in the totals.';
COMMENT ON COLUMN usage_period_total.is_largest IS
'True for one row of a subscription and period: the usage type with the largest price.';
