-- One row per raw data usage record, as the network reported it.
-- Applications, COPY and SQL write through this parent, never to a partition.
-- Partitioned by day: retention drops a whole partition; a stray goes to the default partition.

CREATE TABLE usage_datausagerecord (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    subscription_id bigint NOT NULL,
    usage_date timestamptz NOT NULL,
    kilobytes_used bigint NOT NULL,
    price numeric NOT NULL DEFAULT 0,
    -- One index serves uniqueness, the repair of late keys and live reads of one subscription.
    CONSTRAINT usage_datausagerecord_pkey PRIMARY KEY (subscription_id, usage_date, id),
    -- One NaN, infinite date or overflow would break every later refresh. NaN sorts above 1e12.
    CONSTRAINT usage_datausagerecord_price_check
    CHECK (price > -1e12 AND price < 1e12 AND scale(price) <= 8),
    CONSTRAINT usage_datausagerecord_usage_date_check
    CHECK (usage_date >= '2000-01-01 00:00+00' AND usage_date < '2100-01-01 00:00+00'),
    CONSTRAINT usage_datausagerecord_kilobytes_used_check
    CHECK (kilobytes_used BETWEEN 0 AND 1099511627776)
) PARTITION BY RANGE (usage_date);

CREATE TABLE usage_datausagerecord_default PARTITION OF usage_datausagerecord DEFAULT;

COMMENT ON TABLE usage_datausagerecord IS
'Raw data usage records, partitioned by day of usage. Write through this table only.';
COMMENT ON COLUMN usage_datausagerecord.id IS
'Identifies the record of a subscription and moment. A record that is sent twice keeps its id.';
COMMENT ON COLUMN usage_datausagerecord.subscription_id IS
'The subscription that used it (usage_subscription.id).';
COMMENT ON COLUMN usage_datausagerecord.usage_date IS
'When the usage took place, in the years 2000 to 2099.';
COMMENT ON COLUMN usage_datausagerecord.kilobytes_used IS
'Quantity used, in kilobytes, from 0 to 2^40.';
COMMENT ON COLUMN usage_datausagerecord.price IS
'Rated price in the currency of the deployment, at most 8 decimals; negative for a credit.';
