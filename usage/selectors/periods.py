"""Totals of months and of all days."""

from calendar import monthrange
from datetime import date
from decimal import Decimal
from typing import Any

from django.db.models import Case, Expression, OuterRef, QuerySet, Subquery, When

from usage.models import PeriodTotal, UsageType
from usage.selectors.expressions import Behind, Negative, Rows


def whole_period(from_date: date | None, to_date: date | None) -> date | None:
    """The period that these days are: a month by its first day, ALL_DAYS when both are open, or
    None for any other days."""
    if from_date is None and to_date is None:
        return PeriodTotal.ALL_DAYS
    if from_date is None or to_date is None or from_date.day != 1:
        return None
    return from_date if to_date == month_end(from_date) else None


def month_end(day: date) -> date:
    """The last day of the month that this day is in."""
    return day.replace(day=monthrange(day.year, day.month)[1])


def period_totals(*, period: date | Expression) -> QuerySet[PeriodTotal]:
    """The totals of one period as of the last refresh, those of TotalsState.periods_filled."""
    return PeriodTotal.objects.filter(period=period)


def over_limit_in_period(
    *, totals: QuerySet[PeriodTotal], price_limit: Decimal | Expression, is_of_one_type: bool
) -> Rows:
    """The rows of over_limit for the totals of one period: a range of an index.

    `is_of_one_type` says that they are narrowed to one usage type.
    """
    if is_of_one_type:
        by_type: dict[str, Any] = {
            f"{usage_type.value}_price": Case(When(usage_type=usage_type.value, then="total_price"))
            for usage_type in UsageType
        }
    else:
        totals = totals.filter(is_largest=True)
        by_type = {
            f"{usage_type.value}_price": Subquery(
                PeriodTotal.objects.filter(
                    subscription_id=OuterRef("subscription_id"),
                    period=OuterRef("period"),
                    usage_type=usage_type.value,
                ).values("total_price")
            )
            for usage_type in UsageType
        }
    return (
        totals.annotate(**by_type, rank=Negative("total_price"))
        .filter(rank__lte=Negative(price_limit))
        .values("subscription_id", *by_type, "rank")
    )


def over_limit_page(*, rows: Rows, after: tuple[Decimal, int] | None, size: int) -> Rows:
    """The next `size` rows of over_limit or over_limit_in_period, the largest total first, behind
    the row with this rank and subscription."""
    if after is not None:
        rows = rows.filter(Behind("rank", "subscription_id", *after))
    return rows.order_by("rank", "subscription_id")[:size]
