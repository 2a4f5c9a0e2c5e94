-- The day a moment belongs to, in the zone of the deployment: the only place a day is cut.
-- The zone is taken from the setting usage.time_zone when this file runs (default UTC) and becomes
-- part of the function, so the function is immutable until the zone data of the server changes.

DO $do$
BEGIN
    EXECUTE format(
        $create$
        CREATE OR REPLACE FUNCTION usage_day(moment timestamptz) RETURNS date
        LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        AS $body$ SELECT (moment AT TIME ZONE %L)::date $body$
        $create$,
        coalesce(nullif(current_setting('usage.time_zone', TRUE), ''), 'UTC')
    );
END
$do$;

COMMENT ON FUNCTION usage_day(timestamptz) IS
'The day a moment belongs to, in the time zone of the deployment (usage_state.time_zone).';
