-- The role of people who ask in SQL: it may read daily and monthly totals and how old they are.
-- NOLOGIN: each analyst has a login of their own, made with IN ROLE usage_analyst.
-- Its statement_timeout is how long a statement of theirs may take. A login does not inherit the
-- setting, so each is given it as well; `manage.py check` names those without.
-- Where the migrating user may not make roles this says so; `manage.py check` repeats it.

DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_analyst') THEN
        CREATE ROLE usage_analyst NOLOGIN;
    END IF;
    -- A limit that is there is somebody's choice.
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
