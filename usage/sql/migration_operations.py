"""Migration operations that apply SQL files to the database and undo them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from usage import sql
from usage.sql import capture


class SQLObject(migrations.RunSQL):
    """Migrate to one version of a SQL object, and back to the previous one.

    `drop` removes the object in any version. It never says CASCADE, so a dependent object stops
    the migration, and PostgreSQL names it.
    """

    def __init__(
        self,
        name: str,
        *,
        to: int,
        back_to: int | None = None,
        drop: str,
        state_operations: Sequence[Operation] | None = None,
    ) -> None:
        forward = sql.read(name, to)
        super().__init__(
            sql=forward if back_to is None else f"{drop};\n{forward}",
            reverse_sql=drop if back_to is None else f"{drop};\n{sql.read(name, back_to)}",
            state_operations=state_operations,
            elidable=False,
        )
        self.objects = [(name, to)]

    def describe(self) -> str:
        return "Apply {} version {}".format(*self.objects[0])


class MaterializedViewUnderView(migrations.RunSQL):
    """Migrate to another version of a materialized view without dropping the view over it.

    The new one is made and filled in a schema of its own while readers go on. Then, under a short
    lock, it takes the name of the old one, and the view over it is replaced in place (its file says
    CREATE OR REPLACE). Nothing depends on the old one any more, so it is dropped.
    """

    def __init__(self, name: str, *, to: int, index: str, view: str, view_to: int) -> None:
        def replace(version: int, view_version: int) -> str:
            return f"""
                CREATE SCHEMA usage_next;
                SELECT set_config(
                    'search_path', 'usage_next, ' || current_setting('search_path'), TRUE
                );
                {sql.read(name, version)}
                SELECT set_config(
                    'search_path',
                    replace(current_setting('search_path'), 'usage_next, ', ''),
                    TRUE
                );
                -- Readers lock the view first, then the relations under it. The same order here
                -- avoids a deadlock.
                LOCK TABLE {view} IN ACCESS EXCLUSIVE MODE;
                ALTER MATERIALIZED VIEW {name} RENAME TO {name}_old;
                ALTER INDEX {index} RENAME TO {index}_old;
                DO $do$ BEGIN EXECUTE format(
                    'ALTER MATERIALIZED VIEW usage_next.{name} SET SCHEMA %I', current_schema()
                ); END $do$;
                {sql.read(view, view_version)}
                DROP MATERIALIZED VIEW {name}_old;
                DROP SCHEMA usage_next;
            """

        super().__init__(
            sql=replace(to, view_to), reverse_sql=replace(to - 1, view_to - 1), elidable=False
        )
        self.objects = [(name, to), (view, view_to)]

    def describe(self) -> str:
        return "Apply " + ", ".join(f"{name} version {version}" for name, version in self.objects)


# Each try ends before deadlock_timeout. So PostgreSQL never ends a writer that has locked one of
# the tables and waits for the other.
LOCK_RAW_TABLES = """
DO $do$
BEGIN
    FOR number IN 1..20 LOOP
        BEGIN
            SET LOCAL lock_timeout = '500ms';
            LOCK TABLE usage_datausagerecord, usage_voiceusagerecord IN ACCESS EXCLUSIVE MODE;
            RETURN;
        EXCEPTION
            WHEN lock_not_available THEN
                IF number = 20 THEN
                    RAISE EXCEPTION 'a raw table stayed locked: run the migration again'
                        USING ERRCODE = 'lock_not_available';
                END IF;
                PERFORM pg_sleep(0.2);
        END;
    END LOOP;
END
$do$
"""
# A refresh writes its run and then the state. A migration that locks them in the other order would
# deadlock with it, so it takes the lock of the refresh first.
LOCK_REFRESH = "LOCK TABLE usage_refresh_lock IN SHARE UPDATE EXCLUSIVE MODE"


class Capture(SQLObject):
    """Migrate to another version of the triggers that capture late keys.

    Each database keeps the triggers of its late keys mode: all, or those that a window needs, or
    none if raw records are spread over a Citus cluster. The migration locks the raw tables for a
    moment. It gives up after some seconds; run it again then.
    """

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        with _same_triggers(schema_editor) as has_triggers:
            if has_triggers:
                super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        with _same_triggers(schema_editor) as has_triggers:
            if has_triggers:
                super().database_backwards(app_label, schema_editor, from_state, to_state)


@contextmanager
def _same_triggers(schema_editor: BaseDatabaseSchemaEditor) -> Iterator[bool]:
    """Yield whether the raw tables have triggers; then drop those that were missing before."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT tgname FROM pg_trigger WHERE NOT tgisinternal")
        present = {name for (name,) in cursor}
    has_triggers = bool(present & set(capture.TRIGGERS))
    if has_triggers:
        schema_editor.execute(LOCK_RAW_TABLES, params=None)
    yield has_triggers
    if has_triggers and not present & set(capture.NEEDLESS_IN_A_WINDOW):
        schema_editor.execute(capture.drop(capture.NEEDLESS_IN_A_WINDOW))
