-- The role of the web server: it reads totals and records and writes Django's own tables.
-- NOLOGIN: the web server has an own login, made with IN ROLE usage_web.
-- usage/database/roles.py lists its privileges and grants them after every migrate.
-- If the migrating user may not create roles, a warning says so; `manage.py check` repeats it.

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
