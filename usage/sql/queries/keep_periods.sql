-- Keep the period totals for count_wrong_periods, before they are filled again.
CREATE TEMPORARY TABLE usage_period_before ON COMMIT DROP AS
SELECT
    subscription_id,
    period,
    usage_type,
    total_price,
    total_usage,
    record_count,
    is_largest
FROM usage_period_total
