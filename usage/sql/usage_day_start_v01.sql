-- The earliest moment of a day: the lower bound of its partition and of every search by day.
-- Where clocks go back over midnight (Atlantic/Azores, America/Havana) midnight comes twice and
-- AT TIME ZONE names the second one. Clocks that did not change in the three hours before it,
-- nearly always, leave no choice; else the quarter hours before it are tried.

DO $do$
BEGIN
    EXECUTE format(
        $create$
        CREATE OR REPLACE FUNCTION usage_day_start(day date) RETURNS timestamptz
        LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
        AS $body$
        DECLARE
            midnight constant timestamptz := day::timestamp AT TIME ZONE %1$L;
            earlier timestamptz := midnight - interval '3 hours';
        BEGIN
            IF earlier AT TIME ZONE %1$L = day::timestamp - interval '3 hours' THEN
                RETURN midnight;
            END IF;
            WHILE earlier < midnight AND (earlier AT TIME ZONE %1$L)::date <> day LOOP
                earlier := earlier + interval '15 minutes';
            END LOOP;
            RETURN earlier;
        END
        $body$
        $create$,
        coalesce(nullif(current_setting('usage.time_zone', TRUE), ''), 'UTC')
    );
END
$do$;

COMMENT ON FUNCTION usage_day_start(date) IS
'The earliest moment that belongs to a day in the time zone of the deployment, inclusive.';
