-- One row: what the totals are as of, which days can still change and what waits.
-- Sources: usage_state, usage_late_key, usage_refreshrun.
-- Why: a number is worth what its age says, and an analyst has no right on those tables.

CREATE OR REPLACE VIEW usage_freshness AS
WITH late_keys AS (
    SELECT count(*) AS waiting FROM usage_late_key
),

-- A run that was cut off behind its commit has no end.
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
'One row: how old the totals are and what can still change.';
COMMENT ON COLUMN usage_freshness.as_of IS
'Every record committed by then is in the totals; NULL if they were never filled.';
COMMENT ON COLUMN usage_freshness.age IS
'How long ago that is, at the moment of the query.';
COMMENT ON COLUMN usage_freshness.months_filled IS
'Whether usage_monthly is filled: not from an upgrade that brings it until the next refresh.';
COMMENT ON COLUMN usage_freshness.time_zone IS
'The IANA zone in which days and months are cut.';
COMMENT ON COLUMN usage_freshness.sealed_before IS
'Days before it change by late records and corrections only; NULL if no day is sealed.';
COMMENT ON COLUMN usage_freshness.raw_kept_from IS
'Totals of days before it are final: their raw records are dropped; NULL if none are.';
COMMENT ON COLUMN usage_freshness.late_keys IS
'Late changes to days before sealed_before that wait for the next refresh.';
COMMENT ON COLUMN usage_freshness.last_refresh_took IS
'How long the last successful refresh took; NULL if there was none.';

DO $do$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_analyst') THEN
        GRANT SELECT ON usage_freshness TO usage_analyst;
    END IF;
END
$do$;
