-- Closes the days before first_kept_day: after the commit the raw tables refuse their records.
-- Sources: usage_datausagerecord, usage_voiceusagerecord.
-- Why: in a window no trigger checks inserts, so a CHECK does. Adding it locks each table
-- exclusively: every earlier writer has ended by then, so no fence is needed.

CREATE FUNCTION usage_close_days(first_kept_day date) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $body$
DECLARE
    raw_table text;
    known text;
BEGIN
    FOREACH raw_table IN ARRAY ARRAY['usage_datausagerecord', 'usage_voiceusagerecord'] LOOP
        SELECT conname INTO known
        FROM pg_constraint
        WHERE conrelid = raw_table::regclass AND starts_with(conname, 'usage_raw_kept_from_');
        IF known IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I', raw_table, known);
        END IF;
        -- NULL opens every day again. NOT VALID: the table still has records of closed days until
        -- they are dropped, and the exclusive lock does not last for a scan of the table.
        IF first_kept_day IS NOT NULL THEN
            EXECUTE format(
                'ALTER TABLE %I ADD CONSTRAINT %I'
                ' CHECK (usage_date >= %L OR usage_day(usage_date) >= %L) NOT VALID',
                raw_table,
                -- The error of a refused writer shows only the name, so the name has the day.
                'usage_raw_kept_from_' || first_kept_day,
                usage_day_end(first_kept_day - 1),
                first_kept_day
            );
        END IF;
    END LOOP;
END
$body$;

REVOKE EXECUTE ON FUNCTION usage_close_days(date) FROM public;

COMMENT ON FUNCTION usage_close_days(date) IS
'Makes the raw tables refuse records of days before this one (NULL: of no day).';
