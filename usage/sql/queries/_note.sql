-- Note changes of daily totals for the period totals. The SELECT that follows has these columns.
INSERT INTO usage_total_change (
    subscription_id, day, usage_type, total_price, total_usage, record_count
)
