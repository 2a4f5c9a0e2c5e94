"""Expressions and types that the queries share."""

from typing import Any, TypeAlias

from django.db.models import DateField, DateTimeField, Func, QuerySet

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
