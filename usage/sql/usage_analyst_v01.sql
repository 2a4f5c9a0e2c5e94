-- The role of analysts, who query in SQL: it may read the daily totals and nothing else.
-- NOLOGIN: each analyst has an own login, made with IN ROLE usage_analyst.
-- If the migrating user may not create roles, a warning says so; `manage.py check` repeats it.

DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_analyst') THEN
        CREATE ROLE usage_analyst NOLOGIN;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE WARNING 'role usage_analyst is missing and % may not make it', current_user
            USING HINT = 'As a superuser: CREATE ROLE usage_analyst NOLOGIN, then run manage.py '
            'check --database default, which prints the missing grants.';
    WHEN duplicate_object OR unique_violation THEN
        NULL; -- another database of the same server made it in the meantime
END
$do$;
