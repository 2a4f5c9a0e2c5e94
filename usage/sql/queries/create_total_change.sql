-- The changes of daily totals that this transaction makes.
CREATE TEMPORARY TABLE usage_total_change (
    subscription_id bigint NOT NULL,
    day date NOT NULL,
    usage_type text NOT NULL,
    total_price numeric NOT NULL,
    total_usage bigint NOT NULL,
    record_count bigint NOT NULL
) ON COMMIT DROP
