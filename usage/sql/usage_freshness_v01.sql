-- One row: the age of the totals, the days that can still change, and the late keys that wait.
-- Sources: usage_state, usage_late_key, usage_refreshrun.
-- Why: analysts need the age of a total, and they have no privileges on those tables.

CREATE OR REPLACE VIEW usage_freshness AS
WITH late_keys AS (
    SELECT count(*) AS waiting FROM usage_late_key
),

-- A run that was interrupted after its commit has no finished_at.
last_success AS (
    SELECT
        started_at,
        finished_at
    FROM usage_refreshrun
    WHERE status = 'success' AND finished_at IS NOT NULL
    ORDER BY finished_at DESC
    LIMIT 1
)

SELECT
    usage_state.as_of,
    clock_timestamp() - usage_state.as_of AS age,
    usage_state.open_digest IS NOT NULL AS months_filled,
    usage_state.time_zone,
    usage_state.sealed_before,
    usage_state.raw_kept_from,
    late_keys.waiting AS late_keys,
    last_success.finished_at - last_success.started_at AS last_refresh_took
FROM usage_state
CROSS JOIN late_keys
LEFT JOIN last_success ON TRUE;

COMMENT ON VIEW usage_freshness IS
'One row: the age of the totals, and the days that can still change.';
COMMENT ON COLUMN usage_freshness.as_of IS
'Every record committed by then is in the totals; NULL if they were never filled.';
COMMENT ON COLUMN usage_freshness.age IS
'Time from as_of to the moment of the query.';
COMMENT ON COLUMN usage_freshness.months_filled IS
'Whether usage_monthly is filled; false after an upgrade until the next refresh fills it.';
COMMENT ON COLUMN usage_freshness.time_zone IS
'The IANA zone in which days and months are cut.';
COMMENT ON COLUMN usage_freshness.sealed_before IS
'Only late records and corrections change days before it; NULL if no day is sealed.';
COMMENT ON COLUMN usage_freshness.raw_kept_from IS
'Totals of days before it are final, since their raw records are dropped; NULL if none are.';
COMMENT ON COLUMN usage_freshness.late_keys IS
'Late changes to days before sealed_before that wait for the next refresh.';
COMMENT ON COLUMN usage_freshness.last_refresh_took IS
'Duration of the last successful refresh; NULL if there was none.';

DO $do$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_analyst') THEN
        GRANT SELECT ON usage_freshness TO usage_analyst;
    END IF;
END
$do$;
