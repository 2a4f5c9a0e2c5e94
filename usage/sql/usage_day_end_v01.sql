-- The end of a day, exclusive: the upper bound of every search by day.
-- If clocks go back over midnight, the next day begins twice; AT TIME ZONE returns the second
-- beginning. Bounds only narrow a search: usage_day() decides.

DO $do$
BEGIN
    EXECUTE format(
        $create$
        CREATE OR REPLACE FUNCTION usage_day_end(day date) RETURNS timestamptz
        LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        AS $body$ SELECT (day + 1)::timestamp AT TIME ZONE %L $body$
        $create$,
        coalesce(nullif(current_setting('usage.time_zone', TRUE), ''), 'UTC')
    );
END
$do$;

COMMENT ON FUNCTION usage_day_end(date) IS
'The end of a day in the time zone of the deployment, exclusive.';
