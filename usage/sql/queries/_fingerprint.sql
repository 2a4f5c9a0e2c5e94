-- An aggregate over rows with the columns of a total. Price, usage and record count have different
-- factors, so that a price that is too small cannot cancel a usage that is too large. The usage is
-- summed in two halves of 32 bits as bigint, which takes half the time of numeric.
coalesce(
    sum(usage_total_weight(subscription_id, day, usage_type) * total_price)
    + 1000003 * (
        4294967296
        * sum(usage_total_weight(subscription_id, day, usage_type) * (total_usage >> 32))
        + sum(usage_total_weight(subscription_id, day, usage_type) * (total_usage & 4294967295))
    )
    + 998244353 * sum(usage_total_weight(subscription_id, day, usage_type) * record_count),
    0
)
