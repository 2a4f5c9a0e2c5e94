-- The capture of late keys: one trigger function, attached to every raw table.
-- It logs the keys of days before usage_logging_before and refuses days before
-- usage_raw_kept_from. Records of open days cost one comparison: no log entry.
-- A TRUNCATE is a correction too: it also removes totals of closed days that are not dropped yet.
-- SECURITY DEFINER: a writer needs no privilege on the log. The search path is fixed.
--
-- PostgreSQL fills no transition table of UPDATE for a record that a MERGE moves to another
-- partition, so a row trigger logs both keys of such a record. It costs every UPDATE a row lock.
-- A plain UPDATE fills the transition tables, and to log its records one by one as well would take
-- seven times as long. So a trigger before each statement notes whether it may be a MERGE.

DO $do$
BEGIN
    EXECUTE format(
        $create$
        CREATE FUNCTION usage_log_late_keys() RETURNS trigger
        LANGUAGE plpgsql VOLATILE SECURITY DEFINER
        SET search_path = %I, pg_temp
        AS $body$
        DECLARE
            -- A sequence has no snapshot, so these are the current values.
            logging_before date := date '1999-12-31'
                + (SELECT last_value::integer FROM usage_logging_before);
            kept_from date := date '1999-12-31'
                + (SELECT last_value::integer FROM usage_raw_kept_from);
            -- No moment of an earlier day is at or after this bound.
            logged_until timestamptz := usage_day_end(logging_before - 1);
            closed_day date;
        BEGIN
            IF tg_op = 'TRUNCATE' THEN
                IF current_setting('transaction_isolation') <> 'read committed' THEN
                    RAISE EXCEPTION '%% is truncated at READ COMMITTED only, not at %%',
                        tg_table_name, upper(current_setting('transaction_isolation'))
                        USING ERRCODE = 'invalid_transaction_state',
                        HINT = 'An older snapshot does not see every sealed day.';
                END IF;
                INSERT INTO usage_late_key (subscription_id, day, usage_type)
                SELECT
                    subscription_id,
                    day,
                    usage_type
                FROM usage_daily_sealed
                WHERE
                    usage_type = tg_argv[0]
                    AND day >= (
                        SELECT coalesce(raw_kept_from, '-infinity'::date) FROM usage_state
                    );
                RETURN NULL;
            END IF;

            IF tg_level = 'ROW' THEN
                closed_day := least(usage_day(old.usage_date), usage_day(new.usage_date));
                IF closed_day >= kept_from THEN
                    closed_day := NULL;
                END IF;
                INSERT INTO usage_late_key (subscription_id, day, usage_type)
                SELECT
                    moved.subscription_id,
                    usage_day(moved.usage_date),
                    tg_argv[0]
                FROM (
                    VALUES
                    (old.subscription_id, old.usage_date),
                    (new.subscription_id, new.usage_date)
                ) AS moved (subscription_id, usage_date)
                WHERE
                    moved.usage_date < logged_until
                    AND usage_day(moved.usage_date) < logging_before;
            END IF;

            IF tg_level = 'STATEMENT' AND tg_op <> 'DELETE' THEN
                IF EXISTS (SELECT FROM new_rows WHERE usage_date < logged_until) THEN
                    SELECT min(usage_day(usage_date)) INTO closed_day
                    FROM new_rows
                    WHERE usage_day(usage_date) < kept_from;
                    INSERT INTO usage_late_key (subscription_id, day, usage_type)
                    SELECT DISTINCT
                        subscription_id,
                        usage_day(usage_date),
                        tg_argv[0]
                    FROM new_rows
                    WHERE usage_date < logged_until AND usage_day(usage_date) < logging_before;
                END IF;
            END IF;
            IF tg_level = 'STATEMENT' AND tg_op <> 'INSERT' THEN
                IF EXISTS (SELECT FROM old_rows WHERE usage_date < logged_until) THEN
                    SELECT least(closed_day, min(usage_day(usage_date))) INTO closed_day
                    FROM old_rows
                    WHERE usage_day(usage_date) < kept_from;
                    INSERT INTO usage_late_key (subscription_id, day, usage_type)
                    SELECT DISTINCT
                        subscription_id,
                        usage_day(usage_date),
                        tg_argv[0]
                    FROM old_rows
                    WHERE usage_date < logged_until AND usage_day(usage_date) < logging_before;
                END IF;
            END IF;

            IF closed_day IS NOT NULL THEN
                RAISE EXCEPTION 'the day %% is closed: raw records are kept from %%',
                    closed_day, kept_from
                    USING ERRCODE = 'check_violation',
                    CONSTRAINT = 'usage_raw_kept_from',
                    TABLE = tg_table_name,
                    HINT = format('Its total is final. The first day that can change is %%s.', kept_from);
            END IF;
            RETURN new; -- NULL in a statement trigger, where PostgreSQL ignores the result
        END
        $body$
        $create$,
        current_schema()
    );
END
$do$;

-- Otherwise any role could attach it to a table of its own and fill the log.
REVOKE EXECUTE ON FUNCTION usage_log_late_keys() FROM public;

COMMENT ON FUNCTION usage_log_late_keys() IS
'Logs the keys of late records and refuses records of closed days.';

-- A statement that a client sent is no MERGE if its text has neither MERGE nor EXECUTE. A statement
-- that a function ran may be a MERGE: then the context has more lines than this function's own.
CREATE FUNCTION usage_note_statement() RETURNS trigger
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    context text;
    may_be_merge boolean;
BEGIN
    GET DIAGNOSTICS context = PG_CONTEXT;
    may_be_merge := strpos(context, E'\n') > 0
        OR current_query() IS NULL
        OR current_query() ~* 'merge|execute';
    PERFORM set_config('usage.may_be_merge', may_be_merge::text, TRUE);
    RETURN NULL;
END
$body$;

COMMENT ON FUNCTION usage_note_statement() IS
'Notes in usage.may_be_merge whether the statement that updates raw records may be a MERGE.';

-- For each usage type:
CREATE TRIGGER usage_log_late_keys_insert
AFTER INSERT ON usage_datausagerecord
REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION usage_log_late_keys('data');
ALTER TABLE usage_datausagerecord ENABLE ALWAYS TRIGGER usage_log_late_keys_insert;

CREATE TRIGGER usage_log_late_keys_update
AFTER UPDATE ON usage_datausagerecord
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION usage_log_late_keys('data');
ALTER TABLE usage_datausagerecord ENABLE ALWAYS TRIGGER usage_log_late_keys_update;

CREATE TRIGGER usage_log_late_keys_delete
AFTER DELETE ON usage_datausagerecord
REFERENCING OLD TABLE AS old_rows
FOR EACH STATEMENT EXECUTE FUNCTION usage_log_late_keys('data');
ALTER TABLE usage_datausagerecord ENABLE ALWAYS TRIGGER usage_log_late_keys_delete;

CREATE TRIGGER usage_log_late_keys_truncate
AFTER TRUNCATE ON usage_datausagerecord
FOR EACH STATEMENT EXECUTE FUNCTION usage_log_late_keys('data');
ALTER TABLE usage_datausagerecord ENABLE ALWAYS TRIGGER usage_log_late_keys_truncate;

CREATE TRIGGER usage_note_statement
BEFORE UPDATE ON usage_datausagerecord
FOR EACH STATEMENT EXECUTE FUNCTION usage_note_statement();
ALTER TABLE usage_datausagerecord ENABLE ALWAYS TRIGGER usage_note_statement;

CREATE TRIGGER usage_log_late_keys_move
BEFORE UPDATE ON usage_datausagerecord
FOR EACH ROW
WHEN (
    old.usage_date IS DISTINCT FROM new.usage_date
    AND current_setting('usage.may_be_merge', TRUE) IS DISTINCT FROM 'false'
)
EXECUTE FUNCTION usage_log_late_keys('data');
ALTER TABLE usage_datausagerecord ENABLE ALWAYS TRIGGER usage_log_late_keys_move;
