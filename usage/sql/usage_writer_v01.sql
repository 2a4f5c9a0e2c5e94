-- The role of what delivers usage: it writes raw records through the parent tables, nothing else.
-- NOLOGIN: each application or importer has a login of its own, made with IN ROLE usage_writer.
-- What it may do stands in usage/services/roles.py and is granted after every migrate.
-- Where the migrating user may not make roles this says so; `manage.py check` repeats it.

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
