-- The earliest moment of a day: the lower bound of its partition and of every search by day.
-- Where clocks go back over midnight (Atlantic/Azores, America/Havana) midnight comes twice and
-- AT TIME ZONE names the second one, so the quarter hours before it are tried as well.

DO $do$
BEGIN
    EXECUTE format(
        $create$
        CREATE OR REPLACE FUNCTION usage_day_start(day date) RETURNS timestamptz
        LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        AS $body$
            SELECT min(candidate)
            FROM (
                SELECT (day::timestamp AT TIME ZONE %1$L) - quarters * interval '15 minutes'
                FROM generate_series(0, 12) AS steps (quarters)
            ) AS candidates (candidate)
            WHERE
                (candidate AT TIME ZONE %1$L)::date = day
                OR candidate = day::timestamp AT TIME ZONE %1$L
        $body$
        $create$,
        coalesce(nullif(current_setting('usage.time_zone', TRUE), ''), 'UTC')
    );
END
$do$;

COMMENT ON FUNCTION usage_day_start(date) IS
'The earliest moment that belongs to a day in the time zone of the deployment, inclusive.';
