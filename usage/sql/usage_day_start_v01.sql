-- The first moment of a day: the lower bound of its partition and of every search by day.
-- If clocks go back over midnight (Atlantic/Azores, America/Havana), midnight comes twice, and
-- AT TIME ZONE returns the second one. Nearly always the clocks did not change in the three hours
-- before midnight, and it is the only one. Otherwise the loop tries each quarter of an hour.

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
'The first moment of a day in the time zone of the deployment, inclusive.';
