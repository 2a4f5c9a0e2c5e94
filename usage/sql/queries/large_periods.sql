-- Keys of a month, or of all days, whose sum is too large for a bigint. It reads live totals,
-- because the totals of the failed refresh were rolled back.
SELECT
    subscription_id,
    coalesce(date_trunc('month', day::timestamp)::date, %(all_days)s) AS period,
    usage_type
FROM usage_daily_live
GROUP BY
    usage_type, GROUPING SETS (
        (subscription_id), (subscription_id, date_trunc('month', day::timestamp)::date)
    )
HAVING sum(total_usage) > 9223372036854775807
ORDER BY period DESC, subscription_id ASC, usage_type ASC
LIMIT %(most)s
