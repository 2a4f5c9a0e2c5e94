-- Delete the sealed totals of days before a day, and note it. Yields their number, the
-- fingerprint of the change and its first day.
WITH deleted AS (
    DELETE FROM usage_daily_sealed
    WHERE day < %(end_day)s
    RETURNING subscription_id, day, usage_type, total_price, total_usage, record_count
),

noted AS (
    %(_note)s
    SELECT
        subscription_id,
        day,
        usage_type,
        -total_price,
        -total_usage,
        -record_count
    FROM deleted
)

SELECT
    count(*),
    -(%(_fingerprint)s),
    min(day)
FROM deleted
