-- The day of a moment, in the time zone of the deployment. Only this function cuts days.
-- When this file runs, the zone of the setting usage.time_zone (default UTC) becomes part of the
-- function, so the function is immutable until the zone data of the server changes.

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
'The day of a moment, in the time zone of the deployment (usage_state.time_zone).';
