"""Migration operations that apply SQL files to the database and undo them."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from django.contrib.postgres.functions import RandomUUID
from django.db import migrations, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from usage import sql
from usage.sql import capture


def stored_types(connection: BaseDatabaseWrapper) -> list[sql.TypeInSQL] | None:
    """Return the rows of the table usage_type, or None before a migration has made it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('usage_type') IS NOT NULL")
        if cursor.fetchone() == (False,):
            return None
        cursor.execute(
            "SELECT usage_type, label, unit, raw_table, quantity_column FROM usage_type"
            " ORDER BY usage_type"
        )
        return [sql.TypeInSQL(*row) for row in cursor]


def usage_types(connection: BaseDatabaseWrapper) -> list[sql.TypeInSQL]:
    """Return the usage types of a database: data and voice before it had a table of them."""
    stored = stored_types(connection)
    if stored is None:
        return [sql.DATA, sql.VOICE]
    if sql.DATA not in stored:
        raise RuntimeError(
            "The table usage_type lacks the row of data, as after a restore without its rows. Run: "
            "manage.py check_restore"
        )
    return stored


class ExpandedSQL(migrations.RunSQL):
    """SQL whose part for data is repeated for each usage type of the database."""

    def _run_sql(self, schema_editor: BaseDatabaseSchemaEditor, sqls: Any) -> None:
        if isinstance(sqls, str):
            sqls = sql.expand(sqls, usage_types(schema_editor.connection))
        super()._run_sql(schema_editor, sqls)  # type: ignore[misc]


class SQLObject(ExpandedSQL):
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


def replace_under_view(
    name: str,
    version: int,
    *,
    index: str,
    view: str,
    view_version: int,
    locked: Sequence[str] = (),
) -> str:
    """Return the statements that build a materialized view again, in another version or for other
    usage types, without dropping the view over it.

    The new one is made and filled in a schema of its own while readers go on. Then, under a short
    lock, it takes the name of the old one, and the view over it is replaced in place (its file says
    CREATE OR REPLACE). Nothing depends on the old one any more, so it is dropped. `locked` are
    views that a later statement replaces: they are locked together with the first.
    """
    return f"""
        CREATE SCHEMA usage_next;
        SELECT set_config('search_path', 'usage_next, ' || current_setting('search_path'), TRUE);
        {sql.read(name, version)}
        SELECT set_config(
            'search_path', replace(current_setting('search_path'), 'usage_next, ', ''), TRUE
        );
        -- Readers lock the view first, then the relations under it. The same order here avoids a
        -- deadlock.
        {lock(view, *locked)};
        ALTER MATERIALIZED VIEW {name} RENAME TO {name}_old;
        ALTER INDEX {index} RENAME TO {index}_old;
        DO $do$ BEGIN EXECUTE format(
            'ALTER MATERIALIZED VIEW usage_next.{name} SET SCHEMA %I', current_schema()
        ); END $do$;
        {sql.read(view, view_version)}
        DROP MATERIALIZED VIEW {name}_old;
        DROP SCHEMA usage_next;
    """


class MaterializedViewUnderView(ExpandedSQL):
    """Migrate to another version of a materialized view, and of the view over it, and back."""

    def __init__(self, name: str, *, to: int, index: str, view: str, view_to: int) -> None:
        super().__init__(
            sql=replace_under_view(name, to, index=index, view=view, view_version=view_to),
            reverse_sql=replace_under_view(
                name, to - 1, index=index, view=view, view_version=view_to - 1
            ),
            elidable=False,
        )
        self.objects = [(name, to), (view, view_to)]

    def describe(self) -> str:
        return "Apply " + ", ".join(f"{name} version {version}" for name, version in self.objects)


# One statement locks all of them. Each try ends before deadlock_timeout, so PostgreSQL never ends a
# writer or reader that has locked one of the relations and waits for another.
LOCK = """
DO $do$
BEGIN
    FOR number IN 1..20 LOOP
        BEGIN
            SET LOCAL lock_timeout = '500ms';
            LOCK TABLE {relations} IN ACCESS EXCLUSIVE MODE;
            RETURN;
        EXCEPTION
            WHEN lock_not_available THEN
                IF number = 20 THEN
                    RAISE EXCEPTION 'a table stayed locked: run the migration again'
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


def lock(*relations: str) -> str:
    """Return the statement that locks relations for this transaction, or gives up after seconds."""
    return LOCK.format(relations=", ".join(relations))


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
        known = usage_types(schema_editor.connection)
        schema_editor.execute(lock(*(each.raw_table for each in known)), params=None)
    yield has_triggers
    if has_triggers and not present & set(capture.NEEDLESS_IN_A_WINDOW):
        schema_editor.execute(capture.drop(capture.NEEDLESS_IN_A_WINDOW))


def record_model(
    name: str, table: str, quantity: str, validators: Sequence[Any] = ()
) -> migrations.CreateModel:
    """The state operation of a model of raw records."""
    return migrations.CreateModel(
        name=name,
        fields=[
            (
                "pk",
                models.CompositePrimaryKey(
                    "subscription_id",
                    "usage_date",
                    "id",
                    blank=True,
                    editable=False,
                    primary_key=True,
                    serialize=False,
                ),
            ),
            ("id", models.UUIDField(db_default=RandomUUID(), default=uuid.uuid4)),
            ("usage_date", models.DateTimeField()),
            (
                "price",
                models.DecimalField(
                    db_default=0, decimal_places=8, default=Decimal(0), max_digits=20
                ),
            ),
            (quantity, models.BigIntegerField(validators=[*validators])),
            (
                "subscription",
                models.ForeignKey(
                    db_constraint=False,
                    db_index=False,
                    on_delete=models.PROTECT,
                    to="usage.subscription",
                ),
            ),
        ],
        options={"db_table": table},
    )
