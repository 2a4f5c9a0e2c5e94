-- The number of period totals that were wrong or missing before they were filled again.
SELECT count(*)
FROM usage_period_before AS before
FULL JOIN usage_period_total AS total USING (subscription_id, period, usage_type)
WHERE
    (before.total_price, before.total_usage, before.record_count, before.is_largest)
    IS DISTINCT FROM
    (total.total_price, total.total_usage, total.record_count, total.is_largest)
