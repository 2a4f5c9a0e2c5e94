-- One row per subscription, day and usage type: the rows of usage_daily_live for these
-- subscriptions and days. Sources: usage_daily_sealed, usage_late_key, the raw records.
-- Why: to plan the view over every partition takes twenty times longer than to read the few rows
-- of one subscription. A session plans these statements once, and each reads only the partitions
-- of its days. STABLE: all of them see the snapshot of the calling statement.

CREATE OR REPLACE FUNCTION usage_daily_live_of(wanted_ids bigint[], first_day date, last_day date)
RETURNS TABLE (
    subscription_id bigint,
    day date,
    usage_type text,
    total_price numeric,
    total_usage bigint,
    record_count bigint,
    last_usage_at timestamptz
)
LANGUAGE plpgsql STABLE ROWS 100
-- One generic plan serves every call. It has all partitions, so JIT or parallel workers would cost
-- more than the few rows that it reads. It stays in use after a partition or the log was empty, so
-- it must use the index and never a sequential scan.
SET plan_cache_mode = force_generic_plan
SET jit = off
SET max_parallel_workers_per_gather = 0
SET enable_seqscan = off
AS $body$
#variable_conflict use_column
DECLARE
    open_from date;
    kept_from date;
    usage_from timestamptz;
    usage_until timestamptz;
BEGIN
    SELECT coalesce(sealed_before, '-infinity'), coalesce(raw_kept_from, '-infinity')
    INTO open_from, kept_from
    FROM usage_state;

    RETURN QUERY
    SELECT
        sealed.subscription_id,
        sealed.day,
        sealed.usage_type,
        sealed.total_price,
        sealed.total_usage,
        sealed.record_count,
        sealed.last_usage_at
    FROM usage_daily_sealed AS sealed
    WHERE
        sealed.subscription_id = ANY (wanted_ids)
        AND sealed.day BETWEEN first_day AND last_day
        AND NOT EXISTS (
            SELECT
            FROM usage_late_key AS late
            WHERE
                late.subscription_id = ANY (wanted_ids)
                AND late.subscription_id = sealed.subscription_id
                AND late.day = sealed.day
                AND late.usage_type = sealed.usage_type
                AND late.day >= kept_from
                AND late.day < open_from
        );

    -- Mostly there are no late keys, and to prepare a read of every partition is expensive.
    IF EXISTS (SELECT FROM usage_late_key WHERE subscription_id = ANY (wanted_ids)) THEN
        RETURN QUERY
        SELECT
            late.subscription_id,
            late.day,
            late.usage_type,
            repaired.total_price,
            repaired.total_usage,
            repaired.record_count,
            repaired.last_usage_at
        FROM (
            SELECT DISTINCT subscription_id, day, usage_type
            FROM usage_late_key
            WHERE
                subscription_id = ANY (wanted_ids)
                AND day BETWEEN first_day AND last_day
                AND day >= kept_from
                AND day < open_from
        ) AS late
        CROSS JOIN
            LATERAL
            usage_totals_of_key(late.subscription_id, late.day, late.usage_type) AS repaired;
    END IF;

    -- The bounds are computed here once, instead of once for each partition. If clocks go back over
    -- midnight, the bounds reach into another day, so HAVING checks the day: once a group is cheap.
    open_from := greatest(open_from, first_day);
    IF open_from <= last_day THEN
        usage_from := usage_day_start(open_from);
        usage_until := usage_day_end(last_day);

        RETURN QUERY
        -- For each usage type, with UNION ALL between:
        SELECT
            record.subscription_id,
            usage_day(record.usage_date) AS day,
            'data'::text AS usage_type,
            sum(record.price) AS total_price,
            sum(record.kilobytes_used)::bigint AS total_usage,
            count(*) AS record_count,
            max(record.usage_date) AS last_usage_at
        FROM usage_datausagerecord AS record
        WHERE
            record.subscription_id = ANY (wanted_ids)
            AND record.usage_date >= usage_from
            AND record.usage_date < usage_until
        GROUP BY record.subscription_id, usage_day(record.usage_date)
        HAVING usage_day(max(record.usage_date)) BETWEEN open_from AND last_day;
    END IF;
END
$body$;

COMMENT ON FUNCTION usage_daily_live_of(bigint[], date, date) IS
'The rows of usage_daily_live for some subscriptions and days (both included); faster.';
