-- The sample subscriptions with their numbers, for make_records.
CREATE TEMPORARY TABLE usage_generate_subscription AS
SELECT
    number,
    usage_subscription.id AS subscription_id
FROM generate_series(1, %(subscriptions)s) AS numbers (number)
INNER JOIN
    usage_subscription
    ON external_id = 'sub-' || lpad(number::text, greatest(6, length(number::text)), '0')
