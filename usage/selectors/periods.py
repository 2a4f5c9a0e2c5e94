"""Period totals: of months and of all days."""

from calendar import monthrange
from datetime import date
from decimal import Decimal
from typing import Any

from django.db.models import Case, Expression, OuterRef, QuerySet, Subquery, When

from usage.models import PeriodTotal, UsageType
from usage.selectors.expressions import Negative, Rows


def whole_period(from_date: date | None, to_date: date | None) -> date | None:
    """Return the period of these days: the first day of a whole month, ALL_DAYS without dates, or
    None for any other days."""
    if from_date is None and to_date is None:
        return PeriodTotal.ALL_DAYS
    if from_date is None or to_date is None or from_date.day != 1:
        return None
    return from_date if to_date == month_end(from_date) else None


def month_end(day: date) -> date:
    """Return the last day of the month of this day."""
    return day.replace(day=monthrange(day.year, day.month)[1])


def period_totals(*, period: date | Expression) -> QuerySet[PeriodTotal]:
    """Return the totals of one period as of the last refresh. Check TotalsState.periods_filled
    first."""
    return PeriodTotal.objects.filter(period=period)


def over_limit_in_period(
    *, totals: QuerySet[PeriodTotal], price_limit: Decimal | Expression, is_of_one_type: bool
) -> Rows:
    """Return the rows of over_limit from the totals of one period, a range of an index.

    `is_of_one_type`: the totals are already filtered by one usage type.
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
