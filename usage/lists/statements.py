"""SQL that is compiled once for all queries that differ only in their values."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any, Self
from weakref import WeakKeyDictionary

from django.conf import settings
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.models import Expression, Field, ForeignKey, Lookup
from django.db.models.sql.compiler import SQLCompiler

from usage.database import routing
from usage.database.errors import sqlstate
from usage.selectors import Rows

ROW_LIMIT = "row_limit"

PLACEHOLDER = re.compile("%s|%%")

# A plan takes 80 KB of the server's memory, and every thread has a connection of its own. The
# statements that run first on a connection are also the frequent ones.
MOST_PREPARED = 40

PLAN_IS_OLD = "0A000"

# The names of the statements that each connection has prepared.
_prepared: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()


class RequestValue(Expression):
    """A placeholder in a queryset: each request brings the value with this name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def as_sql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper
    ) -> tuple[str, tuple[Any, ...]]:
        return "%s", (self,)

    def get_group_by_cols(self) -> list[Any]:
        return []


@Field.register_lookup
@ForeignKey.register_lookup
class EqualsAny(Lookup):
    """`subscription_id__any=[1, 2]`: unlike `in`, one SQL parameter for any number of values."""

    lookup_name = "any"
    prepare_rhs = False

    def as_sql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper
    ) -> tuple[str, tuple[Any, ...]]:
        column, column_parameters = self.process_lhs(compiler, connection)
        values, values_parameters = self.process_rhs(compiler, connection)
        return f"{column} = ANY({values})", (*column_parameters, *values_parameters)


@dataclass(frozen=True)
class Statement:
    """SQL with parameters. A request brings the value of each parameter that is a RequestValue.

    A statement with a `name` is prepared, so the server parses and plans it once a connection.
    After a few executions the server uses one plan for all values. So give a name only to
    statements whose best plan does not depend on the values. Behind a pool nothing is prepared: the
    next transaction may run on another connection.
    """

    sql: str
    parameters: tuple[Any, ...]
    name: str = ""

    @classmethod
    def of(cls, rows: Rows, *, name: str = "") -> Self:
        """Return the statement of a queryset, with the value ROW_LIMIT as its limit."""
        sql, parameters = rows.query.sql_with_params()
        return cls(f"{sql} LIMIT %s", (*parameters, RequestValue(ROW_LIMIT)), name)

    def filled(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the parameters with the values of one request."""
        return [
            values[parameter.name] if isinstance(parameter, RequestValue) else parameter
            for parameter in self.parameters
        ]

    def fetch(self, values: Mapping[str, Any]) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Return the names of the columns, and the rows, from the current server."""
        connection = connections[routing.current()]
        try:
            return self._fetch(connection, values)
        except DatabaseError as error:
            if not self.name or connection.in_atomic_block or sqlstate(error) != PLAN_IS_OLD:
                raise
            # A migration has changed the type of a column since the statement was prepared.
            connection.close()
            return self._fetch(connection, values)

    def _fetch(
        self, connection: BaseDatabaseWrapper, values: Mapping[str, Any]
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        with connection.cursor() as cursor:
            cursor.execute(self.sent(cursor), self.filled(values))
            return [column.name for column in cursor.description], cursor.fetchall()

    def sent(self, cursor: CursorWrapper) -> str:
        """Return the text to send with the parameters: the SQL, or an EXECUTE of the prepared
        statement."""
        if not self.name or settings.DATABASE_POOL:
            return self.sql
        names = _prepared.setdefault(cursor.connection, set())
        if self._full_name not in names:
            if len(names) == MOST_PREPARED:
                return self.sql
            numbers = count(1)
            numbered = PLACEHOLDER.sub(
                lambda found: "%" if found[0] == "%%" else f"${next(numbers)}", self.sql
            )
            cursor.execute(f"PREPARE {self._full_name} AS {numbered}")
            names.add(self._full_name)
        return self._call

    @cached_property
    def _full_name(self) -> str:
        digest = hashlib.sha256(self.sql.encode()).hexdigest()
        return f"{self.name}_{digest[:16]}"

    @cached_property
    def _call(self) -> str:
        if not self.parameters:
            return f"EXECUTE {self._full_name}"
        return f"EXECUTE {self._full_name} ({', '.join(['%s'] * len(self.parameters))})"
