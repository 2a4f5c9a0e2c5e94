-- One row per raw voice usage record, as the network reported it.
-- Applications, COPY and SQL write through this parent, never to a partition.
-- Partitioned by day: retention drops a whole partition; a stray goes to the default partition.

CREATE TABLE usage_voiceusagerecord (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    subscription_id bigint NOT NULL,
    usage_date timestamptz NOT NULL,
    seconds_used bigint NOT NULL,
    price numeric NOT NULL DEFAULT 0,
    -- One index serves uniqueness, the repair of late keys and live reads of one subscription.
    CONSTRAINT usage_voiceusagerecord_pkey PRIMARY KEY (subscription_id, usage_date, id),
    -- One NaN, infinite date or overflow would break every later refresh. NaN sorts above 1e12.
    CONSTRAINT usage_voiceusagerecord_price_check
    CHECK (price > -1e12 AND price < 1e12 AND scale(price) <= 8),
    CONSTRAINT usage_voiceusagerecord_usage_date_check
    CHECK (usage_date >= '2000-01-01 00:00+00' AND usage_date < '2100-01-01 00:00+00'),
    CONSTRAINT usage_voiceusagerecord_seconds_used_check
    CHECK (seconds_used BETWEEN 0 AND 1099511627776)
) PARTITION BY RANGE (usage_date);

CREATE TABLE usage_voiceusagerecord_default PARTITION OF usage_voiceusagerecord DEFAULT;

COMMENT ON TABLE usage_voiceusagerecord IS
'Raw voice usage records, partitioned by day of usage. Write through this table only.';
COMMENT ON COLUMN usage_voiceusagerecord.id IS
'Identifies the record of a subscription and moment. A record that is sent twice keeps its id.';
COMMENT ON COLUMN usage_voiceusagerecord.subscription_id IS
'The subscription that used it (usage_subscription.id).';
COMMENT ON COLUMN usage_voiceusagerecord.usage_date IS
'When the usage took place, in the years 2000 to 2099.';
COMMENT ON COLUMN usage_voiceusagerecord.seconds_used IS
'Quantity used, in seconds, from 0 to 2^40.';
COMMENT ON COLUMN usage_voiceusagerecord.price IS
'Rated price in the currency of the deployment, at most 8 decimals; negative for a credit.';
