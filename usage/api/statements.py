"""SQL compiled once for each shape of a question; a request only brings its values."""

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

from usage.selectors import Rows
from usage.services import servers
from usage.services.locks import sqlstate

ROW_LIMIT = "row_limit"

PLACEHOLDER = re.compile("%s|%%")

# A plan takes 80 KB of the server's memory, and every thread has a connection of its own. Those
# that are asked first are those that are asked often.
MOST_PREPARED = 40

PLAN_IS_OLD = "0A000"

# The names of the statements that each connection has prepared.
_prepared: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()


class Asked(Expression):
    """Stands in a queryset for a value that each request brings, under this name."""

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
    """`subscription_id__any=[1, 2]`: unlike `in`, one parameter however many values there are."""

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
    """SQL; where a parameter is Asked, a request brings it.

    One that has a `name` is prepared under it: the server parses and plans it once a connection.
    That is for those whose plan doesn't depend on the values, which it soon stops looking at. None
    is behind a pool, where the next transaction may be another connection's.
    """

    sql: str
    parameters: tuple[Any, ...]
    name: str = ""

    @classmethod
    def of(cls, rows: Rows, *, name: str = "") -> Self:
        """The queryset, limited by the value named ROW_LIMIT."""
        sql, parameters = rows.query.sql_with_params()
        return cls(f"{sql} LIMIT %s", (*parameters, Asked(ROW_LIMIT)), name)

    def filled(self, values: Mapping[str, Any]) -> list[Any]:
        """The parameters with the values of one request in them."""
        return [
            values[parameter.name] if isinstance(parameter, Asked) else parameter
            for parameter in self.parameters
        ]

    def fetch(self, values: Mapping[str, Any]) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The names of the columns, and the rows, from the current server."""
        connection = connections[servers.current()]
        try:
            return self._fetch(connection, values)
        except DatabaseError as error:
            if not self.name or connection.in_atomic_block or sqlstate(error) != PLAN_IS_OLD:
                raise
            # A migration changed the type of a column since it was prepared.
            connection.close()
            return self._fetch(connection, values)

    def _fetch(
        self, connection: BaseDatabaseWrapper, values: Mapping[str, Any]
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        with connection.cursor() as cursor:
            cursor.execute(self.sent(cursor), self.filled(values))
            return [column.name for column in cursor.description], cursor.fetchall()

    def sent(self, cursor: CursorWrapper) -> str:
        """What is sent with the parameters: the SQL, or the name under which it is prepared."""
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
