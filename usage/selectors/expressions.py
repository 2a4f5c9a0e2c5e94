"""What the questions are written with."""

from typing import Any, TypeAlias

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, DateField, DateTimeField, Func, QuerySet
from django.db.models.sql.compiler import SQLCompiler

# Rows as dictionaries, from QuerySet.values().
Rows: TypeAlias = QuerySet[Any, Any]


class UsageDay(Func):
    """The day a moment belongs to, cut by the database."""

    function = "usage_day"
    arity = 1
    output_field = DateField()


class UsageDayStart(Func):
    """The earliest moment of a day, inclusive: a bound that prunes partitions."""

    function = "usage_day_start"
    arity = 1
    output_field = DateTimeField()


class UsageDayEnd(Func):
    """The moment after the last one of a day, exclusive: a bound that prunes partitions."""

    function = "usage_day_end"
    arity = 1
    output_field = DateTimeField()


class Negative(Func):
    """The value below zero as it is above, written as the indexes of period totals are."""

    template = "(-%(expressions)s)"
    arity = 1


class Behind(Func):
    """(a, b) > (x, y): where an index has these columns, a range that begins right there."""

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
