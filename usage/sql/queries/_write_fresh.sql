-- The CTEs that write the totals of `fresh` where they differ from those of `known`, and note it.
-- A repair writes only rows that differ.
noted AS (
    %(_note)s
    SELECT
        subscription_id,
        day,
        usage_type,
        coalesce(fresh.total_price, 0) - coalesce(known.total_price, 0),
        coalesce(fresh.total_usage, 0) - coalesce(known.total_usage, 0),
        coalesce(fresh.record_count, 0) - coalesce(known.record_count, 0)
    FROM fresh
    FULL JOIN known USING (subscription_id, day, usage_type)
    WHERE
        (fresh.total_price, fresh.total_usage, fresh.record_count)
        IS DISTINCT FROM
        (known.total_price, known.total_usage, known.record_count)
        AND (fresh.record_count IS NOT NULL OR %(remove)s)
),

removed AS (
    -- FULL JOIN, because it always uses a hash. The log is vacuumed while it is empty, so the
    -- planner expects no rows, and a nested loop would compare each key with every other key.
    DELETE FROM usage_daily_sealed AS sealed
    USING (
        SELECT
            subscription_id,
            day,
            usage_type
        FROM known
        FULL JOIN fresh USING (subscription_id, day, usage_type)
        WHERE fresh.record_count IS NULL AND %(remove)s
    ) AS gone
    WHERE
        sealed.subscription_id = gone.subscription_id
        AND sealed.day = gone.day
        AND sealed.usage_type = gone.usage_type
    RETURNING
        sealed.subscription_id,
        sealed.day,
        sealed.usage_type,
        sealed.total_price,
        sealed.total_usage,
        sealed.record_count
),

written AS (
    INSERT INTO usage_daily_sealed AS sealed (
        subscription_id, day, usage_type, total_price, total_usage, record_count, last_usage_at
    )
    SELECT
        subscription_id,
        day,
        usage_type,
        total_price,
        total_usage,
        record_count,
        last_usage_at
    FROM fresh
    ON CONFLICT (subscription_id, day, usage_type) DO UPDATE SET
        total_price = excluded.total_price,
        total_usage = excluded.total_usage,
        record_count = excluded.record_count,
        last_usage_at = excluded.last_usage_at
    WHERE
        (sealed.total_price, sealed.total_usage, sealed.record_count, sealed.last_usage_at)
        IS DISTINCT FROM
        (
            excluded.total_price,
            excluded.total_usage,
            excluded.record_count,
            excluded.last_usage_at
        )
    RETURNING
        sealed.subscription_id,
        sealed.day,
        sealed.usage_type,
        sealed.total_price,
        sealed.total_usage,
        sealed.record_count,
        -- The row before the change: a subquery reads the snapshot of its statement.
        (
            SELECT before
            FROM usage_daily_sealed AS before
            WHERE
                before.subscription_id = sealed.subscription_id
                AND before.day = sealed.day
                AND before.usage_type = sealed.usage_type
        ) AS before
),

difference AS (
    SELECT
        subscription_id,
        day,
        usage_type,
        total_price,
        total_usage,
        record_count
    FROM written
    UNION ALL
    SELECT
        subscription_id,
        day,
        usage_type,
        -(before).total_price AS total_price,
        -(before).total_usage AS total_usage,
        -(before).record_count AS record_count
    FROM written
    WHERE (before).record_count IS NOT NULL
    UNION ALL
    SELECT
        subscription_id,
        day,
        usage_type,
        -total_price,
        -total_usage,
        -record_count
    FROM removed
)
