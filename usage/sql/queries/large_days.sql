-- Keys of one day whose sum is too large for a bigint.
SELECT
    subscription_id,
    usage_day(usage_date) AS day,
    usage_type
FROM usage_record
WHERE
    usage_date >= usage_day_start(%(first_day)s)
    AND usage_date < usage_day_end(%(last_day)s)
    AND %(_of_subscriptions)s
GROUP BY subscription_id, usage_day(usage_date), usage_type
HAVING sum(quantity) > 9223372036854775807
ORDER BY day, subscription_id, usage_type
LIMIT %(most)s
