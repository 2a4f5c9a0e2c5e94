-- Note the difference between the daily totals and the months; the notes of a right month add up to
-- zero.
%(_note)s
SELECT
    subscription_id,
    date_trunc('month', day::timestamp)::date AS month,
    usage_type,
    sum(total_price),
    sum(total_usage),
    sum(record_count)
FROM usage_daily
WHERE day >= %(first_month)s
GROUP BY subscription_id, date_trunc('month', day::timestamp)::date, usage_type
UNION ALL
SELECT
    subscription_id,
    period,
    usage_type,
    -total_price,
    -total_usage,
    -record_count
FROM usage_period_total
WHERE period >= %(first_month)s AND period <> %(all_days)s
