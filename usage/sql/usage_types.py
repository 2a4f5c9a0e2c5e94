"""The migration operation that adds a usage type: its raw table, and all that reads it."""

import re
from collections.abc import Mapping
from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from usage import sql
from usage.sql import capture
from usage.sql.migration_operations import (
    LOCK_REFRESH,
    record_model,
    replace_under_view,
    usage_types,
)

# PostgreSQL folds other names that are not quoted, and cuts names of partitions and checks at 63
# characters.
NAME = re.compile("[a-z][a-z0-9_]{0,39}")
BOUNDS = [MinValueValidator(0), MaxValueValidator(2**32)]
HOLDS_USAGE = """
    SELECT
        EXISTS (SELECT FROM {raw_table})
        OR EXISTS (SELECT FROM usage_daily_sealed WHERE usage_type = %s)
"""
REMEMBER = """
    INSERT INTO usage_type (usage_type, label, unit, raw_table, quantity_column)
    VALUES (%s, %s, %s, %s, %s)
"""
# In a window a check refuses closed days. The new table gets that of the other raw tables.
CLOSE_DAYS = """
    SELECT format('ALTER TABLE %%I ADD CONSTRAINT %%I %%s', %s, conname, pg_get_constraintdef(oid))
    FROM pg_constraint
    WHERE conrelid = %s::regclass AND starts_with(conname, 'usage_raw_kept_from_')
"""
# Readers of totals wait behind the lock: the migration gives up after seconds and can be run again.
WAIT_BRIEFLY = "SET LOCAL lock_timeout = '5s'"


class AddUsageType(Operation):
    """Create the raw table of a usage type, and let all functions and views read it.

    `model` is the name of its record model. `versions` names the SQL files in force that have a
    part for each usage type. The way back refuses while there is usage of the type. Refreshes wait
    while the materialized view is built again; readers and writers wait for the moment of its swap.
    """

    reversible = True

    def __init__(
        self,
        usage_type: sql.TypeInSQL,
        *,
        model: str,
        versions: Mapping[str, int],
    ) -> None:
        for name in (usage_type.usage_type, usage_type.raw_table, usage_type.quantity_column):
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} cannot name a usage type, its table or its column: use lower "
                    "case letters, digits and _, at most 40, and begin with a letter."
                )
        self.usage_type = usage_type
        self.create_model = record_model(
            model, usage_type.raw_table, usage_type.quantity_column, BOUNDS
        )
        self.versions = versions

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        self.create_model.state_forwards(app_label, state)

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        new = self.usage_type
        known = usage_types(schema_editor.connection)
        self._refuse_twice(known)
        schema_editor.execute(f"{LOCK_REFRESH}; {WAIT_BRIEFLY}", params=None)
        schema_editor.execute(new.written(sql.read(sql.DATA.raw_table, 1)), params=None)
        self._execute_for(schema_editor, "usage_quantity_bound")
        schema_editor.execute(
            f"ALTER TABLE {new.raw_table} VALIDATE CONSTRAINT usage_quantity_bound;"
            f" COMMENT ON COLUMN {new.raw_table}.{new.quantity_column} IS"
            " 'Quantity used, in {}, from 0 to 2^32.'".format(new.unit.replace("'", "''")),
            params=None,
        )
        if triggers := _triggers(schema_editor, sql.DATA.raw_table):
            self._execute_for(schema_editor, "usage_log_late_keys")
            for trigger in sorted(set(capture.TRIGGERS) - triggers):
                schema_editor.execute(f"DROP TRIGGER {trigger} ON {new.raw_table}", params=None)
        schema_editor.execute(
            REMEMBER,
            [new.usage_type, new.label, new.unit, new.raw_table, new.quantity_column],
        )
        self._read_all(schema_editor, [*known, new])
        self._close_days(schema_editor)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        gone = self.usage_type
        known = usage_types(schema_editor.connection)
        schema_editor.execute(f"{LOCK_REFRESH}; {WAIT_BRIEFLY}", params=None)
        self._refuse_usage(schema_editor)
        schema_editor.execute("DELETE FROM usage_type WHERE usage_type = %s", [gone.usage_type])
        schema_editor.execute("DELETE FROM usage_late_key WHERE usage_type = %s", [gone.usage_type])
        self._read_all(schema_editor, [each for each in known if each != gone])
        # The lock of the views includes the raw table. A writer may have committed before it.
        self._refuse_usage(schema_editor)
        schema_editor.execute(f"DROP TABLE {gone.raw_table}", params=None)

    def describe(self) -> str:
        return f"Add the usage type {self.usage_type.usage_type}"

    def _refuse_twice(self, known: list[sql.TypeInSQL]) -> None:
        for each in known:
            for column in ("usage_type", "label", "raw_table"):
                value = getattr(self.usage_type, column)
                if value == getattr(each, column):
                    raise ValueError(
                        f"The usage type {each.usage_type} has the {column} {value!r} already."
                    )

    def _refuse_usage(self, schema_editor: Any) -> None:
        gone = self.usage_type
        with schema_editor.connection.cursor() as cursor:
            cursor.execute(HOLDS_USAGE.format(raw_table=gone.raw_table), [gone.usage_type])
            if cursor.fetchone() == (True,):
                raise RuntimeError(
                    f"There is usage of type {gone.usage_type}: going back would lose it. Delete "
                    f"the rows of {gone.raw_table} and refresh, or stay at this version."
                )

    def _close_days(self, schema_editor: Any) -> None:
        with schema_editor.connection.cursor() as cursor:
            cursor.execute(CLOSE_DAYS, [self.usage_type.raw_table, sql.DATA.raw_table])
            statements = [statement for (statement,) in cursor]
        for statement in statements:
            schema_editor.execute(statement, params=None)

    def _execute_for(self, schema_editor: Any, name: str) -> None:
        text = sql.read(name, self.versions[name])
        schema_editor.execute(sql.statements_for(text, self.usage_type), params=None)

    def _read_all(self, schema_editor: Any, types: list[sql.TypeInSQL]) -> None:
        """Rewrite the functions and views that have a part for each usage type, for these types."""
        view = replace_under_view(
            "usage_daily_open",
            self.versions["usage_daily_open"],
            index="usage_daily_open_key",
            view="usage_daily",
            view_version=self.versions["usage_daily"],
            locked=["usage_daily_live"],
        )
        schema_editor.execute(sql.expand(view, types), params=None)
        for name in (
            "usage_record",
            "usage_totals_of_days",
            "usage_daily_live",
            "usage_daily_live_of",
        ):
            text = sql.expand(sql.read(name, self.versions[name]), types)
            schema_editor.execute(text, params=None)


def _triggers(schema_editor: BaseDatabaseSchemaEditor, table: str) -> set[str]:
    """Return the names of our triggers on a raw table."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND tgname = ANY(%s)",
            [table, list(capture.TRIGGERS)],
        )
        return {name for (name,) in cursor}
