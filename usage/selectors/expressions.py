"""Expressions and types that the queries share."""

from typing import Any, TypeAlias

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, DateField, DateTimeField, Func, QuerySet
from django.db.models.sql.compiler import SQLCompiler

# Rows as dictionaries, from QuerySet.values().
Rows: TypeAlias = QuerySet[Any, Any]


class UsageDay(Func):
    """The day that a moment belongs to, as the database cuts days."""

    function = "usage_day"
    arity = 1
    output_field = DateField()


class UsageDayStart(Func):
    """The first moment of a day, an inclusive bound, with which PostgreSQL skips partitions."""

    function = "usage_day_start"
    arity = 1
    output_field = DateTimeField()


class UsageDayEnd(Func):
    """The end of a day, an exclusive bound, with which PostgreSQL skips partitions."""

    function = "usage_day_end"
    arity = 1
    output_field = DateTimeField()


class Negative(Func):
    """The negative of a value, written as in the indexes of period totals."""

    template = "(-%(expressions)s)"
    arity = 1


class Behind(Func):
    """The row comparison (a, b) > (x, y): with an index on these columns, the scan begins there."""

    output_field = BooleanField()

    def as_sql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, *_: Any, **__: Any
    ) -> tuple[str, tuple[Any, ...]]:
        parts: list[str] = []
        parameters: list[Any] = []
        for expression in self.get_source_expressions():
            part, its_parameters = compiler.compile(expression)
            parts.append(part)
            parameters += its_parameters
        half = len(parts) // 2
        return f"({', '.join(parts[:half])}) > ({', '.join(parts[half:])})", tuple(parameters)
