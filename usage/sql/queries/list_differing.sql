-- The keys whose total differs from their raw records, and the number of all of them.
WITH %(_differing)s

SELECT
    subscription_id,
    day,
    usage_type,
    total_price,
    expected_price,
    total_usage,
    expected_usage,
    record_count,
    expected_count,
    count(*) OVER ()
FROM differing
ORDER BY subscription_id, day, usage_type
LIMIT %(most)s
