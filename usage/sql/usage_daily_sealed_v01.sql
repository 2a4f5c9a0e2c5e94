-- One row per subscription, day and usage type, of the sealed days.
-- Source: the raw records, when the refresh sealed the day or repaired the key.
-- Why: totals outlive the raw records, and a refresh does not read old days again.

CREATE TABLE usage_daily_sealed (
    subscription_id bigint NOT NULL,
    day date NOT NULL,
    usage_type text NOT NULL CHECK (usage_type IN ('data', 'voice')),
    total_price numeric NOT NULL,
    total_usage bigint NOT NULL,
    record_count bigint NOT NULL CHECK (record_count > 0),
    last_usage_at timestamptz NOT NULL,
    CONSTRAINT usage_daily_sealed_pkey PRIMARY KEY (subscription_id, day, usage_type)
);

-- The refresh seals days in order, so rows lie on disk by day. A BRIN index finds a day for a
-- rebuild, an audit or retention, at a thousandth of the size of a B-tree.
CREATE INDEX usage_daily_sealed_day
ON usage_daily_sealed USING brin (day) WITH (pages_per_range = 16, autosummarize = TRUE);

COMMENT ON TABLE usage_daily_sealed IS
'Totals by subscription, day and usage type of the days before usage_state.sealed_before.';
COMMENT ON COLUMN usage_daily_sealed.subscription_id IS
'The subscription (usage_subscription.id).';
COMMENT ON COLUMN usage_daily_sealed.day IS
'The day of usage in the time zone of the deployment.';
COMMENT ON COLUMN usage_daily_sealed.usage_type IS
'data or voice.';
COMMENT ON COLUMN usage_daily_sealed.total_price IS
'Sum of prices, exact, in the currency of the deployment.';
COMMENT ON COLUMN usage_daily_sealed.total_usage IS
'Sum of quantities: kilobytes for data, seconds for voice.';
COMMENT ON COLUMN usage_daily_sealed.record_count IS
'Number of raw records in the totals.';
COMMENT ON COLUMN usage_daily_sealed.last_usage_at IS
'Moment of the last usage in the totals.';
