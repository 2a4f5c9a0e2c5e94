"""SQL compiled once for each shape of a question; a request only brings its values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Expression, Field, ForeignKey, Lookup
from django.db.models.sql.compiler import SQLCompiler

from usage.selectors import Rows

ROW_LIMIT = "row_limit"


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
    """The first rows of a queryset as SQL; where a parameter is Asked, a request brings it."""

    sql: str
    parameters: tuple[Any, ...]

    @classmethod
    def of(cls, rows: Rows) -> Self:
        """Compiles the queryset, to be limited by the value named ROW_LIMIT."""
        sql, parameters = rows.query.sql_with_params()
        return cls(f"{sql} LIMIT %s", (*parameters, Asked(ROW_LIMIT)))

    def filled(self, values: Mapping[str, Any]) -> list[Any]:
        """The parameters with the values of one request in them."""
        return [
            values[parameter.name] if isinstance(parameter, Asked) else parameter
            for parameter in self.parameters
        ]

    def fetch(self, values: Mapping[str, Any]) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The names of the columns, and the rows."""
        with connection.cursor() as cursor:
            cursor.execute(self.sql, self.filled(values))
            return [column.name for column in cursor.description], cursor.fetchall()
