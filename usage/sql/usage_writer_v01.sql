-- The role of applications and importers that deliver usage: it writes through the raw tables only.
-- NOLOGIN: each application or importer has an own login, made with IN ROLE usage_writer.
-- usage/database/roles.py lists its privileges and grants them after every migrate.
-- If the migrating user may not create roles, a warning says so; `manage.py check` repeats it.

DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_writer') THEN
        CREATE ROLE usage_writer NOLOGIN;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE WARNING 'role usage_writer is missing and % may not make it', current_user
            USING HINT = 'As a superuser: CREATE ROLE usage_writer NOLOGIN; then run manage.py '
            'migrate again.';
    WHEN duplicate_object OR unique_violation THEN
        NULL; -- another database of the same server made it in the meantime
END
$do$;
