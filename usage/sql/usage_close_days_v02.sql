-- Closes the days before one: from its commit on the raw tables refuse records of these days.
-- Source: usage_type, which names the raw tables.
-- Why: where no trigger looks at every insert, a check does. It takes each table for itself, so
-- whoever began to write before has ended when it has them: there is no later writer to wait for.

CREATE FUNCTION usage_close_days(first_kept_day date) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $body$
DECLARE
    raw_table text;
    known text;
BEGIN
    -- In one order: two that close days wait for each other, and don't end in a deadlock.
    FOR raw_table IN SELECT usage_type.raw_table FROM usage_type ORDER BY usage_type.usage_type LOOP
        SELECT conname INTO known
        FROM pg_constraint
        WHERE conrelid = raw_table::regclass AND starts_with(conname, 'usage_raw_kept_from_');
        IF known IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I', raw_table, known);
        END IF;
        -- NULL opens every day again. NOT VALID: records of closed days lie there until they are
        -- dropped, and nothing is read under the lock.
        IF first_kept_day IS NOT NULL THEN
            EXECUTE format(
                'ALTER TABLE %I ADD CONSTRAINT %I'
                ' CHECK (usage_date >= %L OR usage_day(usage_date) >= %L) NOT VALID',
                raw_table,
                -- A refused writer sees only this name.
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
'Has the raw tables refuse records of the days before this one (NULL: of no day).';
