-- The role of the web server: it reads totals and records and writes what Django itself keeps.
-- NOLOGIN: the web server has a login of its own, made with IN ROLE usage_web.
-- What it may do stands in usage/services/roles.py and is granted after every migrate.
-- Where the migrating user may not make roles this says so; `manage.py check` repeats it.

DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_web') THEN
        CREATE ROLE usage_web NOLOGIN;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE WARNING 'role usage_web is missing and % may not make it', current_user
            USING HINT = 'As a superuser: CREATE ROLE usage_web NOLOGIN; then run manage.py '
            'migrate again.';
    WHEN duplicate_object OR unique_violation THEN
        NULL; -- another database of the same server made it in the meantime
END
$do$;
