-- Add the sample subscriptions that are missing.
INSERT INTO usage_subscription (external_id)
SELECT wanted.external_id
FROM generate_series(1, %(subscriptions)s) AS numbers (number)
CROSS JOIN
    LATERAL (
        SELECT 'sub-' || lpad(number::text, greatest(6, length(number::text)), '0') AS external_id
    ) AS wanted
LEFT JOIN usage_subscription ON wanted.external_id = usage_subscription.external_id
WHERE usage_subscription.id IS NULL
ORDER BY wanted.external_id
ON CONFLICT (external_id) DO NOTHING
