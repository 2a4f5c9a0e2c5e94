-- At most `count` random subscriptions, found through the primary key.
WITH bounds AS (
    SELECT
        min(id) AS lowest,
        max(id) AS highest
    FROM usage_subscription
)

SELECT DISTINCT picked.id
FROM bounds
CROSS JOIN generate_series(1, %(count)s) AS draws (draw)
CROSS JOIN LATERAL (
    SELECT id
    FROM usage_subscription
    WHERE
        id >= bounds.lowest
        + floor(random() * (bounds.highest - bounds.lowest + 1))::bigint
        + 0 * draws.draw
    ORDER BY id
    LIMIT 1
) AS picked
