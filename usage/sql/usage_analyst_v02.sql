-- The role of analysts, who query in SQL: it may read daily and monthly totals and their age.
-- NOLOGIN: each analyst has an own login, made with IN ROLE usage_analyst.
-- Its statement_timeout limits a statement of an analyst. A login does not inherit the setting, so
-- each login needs its own; `manage.py check` names the logins without it.
-- If the migrating user may not create roles, a warning says so; `manage.py check` repeats it.

DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_analyst') THEN
        CREATE ROLE usage_analyst NOLOGIN;
    END IF;
    -- An operator chose an existing limit, so it stays.
    IF NOT EXISTS (
        SELECT
        FROM pg_roles
        WHERE rolname = 'usage_analyst' AND rolconfig::text LIKE '%statement\_timeout=%'
    ) THEN
        ALTER ROLE usage_analyst SET statement_timeout = '60s';
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE WARNING
            'role usage_analyst is missing or has no statement_timeout and % may not change it',
            current_user
            USING HINT = 'As a superuser: CREATE ROLE usage_analyst NOLOGIN; ALTER ROLE '
            'usage_analyst SET statement_timeout = ''60s''; then run manage.py migrate again.';
    WHEN duplicate_object OR unique_violation THEN
        NULL; -- another database of the same server made it in the meantime
END
$do$;
