-- Sealed days between two days, each with the number of its totals.
SELECT
    day,
    count(*)
FROM usage_daily_sealed
WHERE day >= %(first_day)s AND day < %(end_day)s
GROUP BY day
ORDER BY day
