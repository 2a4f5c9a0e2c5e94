-- The days and usage types with so many late keys that it is cheaper to read the whole day.
SELECT
    late.day,
    late.usage_type,
    late.key_count
FROM (
    SELECT
        day,
        usage_type,
        count(DISTINCT subscription_id) AS key_count
    FROM usage_late_key
    WHERE day >= %(kept_from)s AND day < %(sealed_before)s
    GROUP BY day, usage_type
    HAVING count(*) >= %(keys)s
) AS late
WHERE late.key_count >= %(share)s * (
    SELECT count(*)
    FROM usage_daily_sealed AS sealed
    WHERE sealed.day = late.day AND sealed.usage_type = late.usage_type
)
