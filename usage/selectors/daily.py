"""Daily totals, and their sums by subscription or by day."""

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Context, Decimal, Inexact
from typing import TypeAlias

from django.db.models import Count, Expression, Max, Min, Q, QuerySet, Sum
from django.db.models.functions import Greatest

from usage.models import DailyUsage, LiveDailyUsage, UsageType
from usage.models.live import LiveTable
from usage.selectors.expressions import Negative, Rows

# The first and last day that a query accepts.
FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2099, 12, 31)

# The context for money: sums and differences are exact, or raise.
EXACT = Context(prec=1000, traps=[Inexact])

# The daily totals that a query may read.
DailySource: TypeAlias = QuerySet[DailyUsage] | QuerySet[LiveDailyUsage]


def refreshed_daily() -> QuerySet[DailyUsage]:
    """Return the daily totals of the last refresh."""
    return DailyUsage.objects.all()


def live_daily(
    *,
    subscription_ids: Sequence[int] | Expression | None = None,
    external_ids: Sequence[str] | Expression | None = None,
    from_date: date | Expression | None = None,
    to_date: date | Expression | None = None,
    owner: int | Expression | None = None,
) -> QuerySet[LiveDailyUsage]:
    """Return daily totals that are exact at the snapshot of the statement.

    They include at least the subscriptions and days named here; the caller filters further. The
    query is fast only if it names subscriptions, or the user who owns them.
    """
    daily = LiveDailyUsage.objects.all()
    if subscription_ids is not None or external_ids is not None or owner is not None:
        daily.query.join(
            LiveTable(
                subscription_ids=subscription_ids,
                external_ids=external_ids,
                owner=owner,
                first_day=from_date or date.min,
                last_day=to_date or date.max,
            )
        )
    return daily


def daily_rows(*, daily: DailySource) -> Rows:
    """Return the daily totals without sums, one row per subscription, day and usage type."""
    return daily.values(
        "subscription_id",
        "day",
        "usage_type",
        "total_price",
        "total_usage",
        "record_count",
        "last_usage_at",
    )


def type_totals(*, daily: DailySource) -> Rows:
    """Return one row per subscription and usage type with usage, summed over its days."""
    return daily.values("subscription_id", "usage_type").annotate(
        price=Sum("total_price"),
        usage=Sum("total_usage"),
        records=Sum("record_count"),
        first_day=Min("day"),
        last_day=Max("day"),
    )


def day_totals(*, daily: DailySource) -> Rows:
    """Return one row per day and usage type with usage, summed over its subscriptions, with their
    number."""
    return daily.values("day", "usage_type").annotate(
        price=Sum("total_price"),
        usage=Sum("total_usage"),
        records=Sum("record_count"),
        subscriptions=Count("*"),
    )


def over_limit(*, daily: DailySource, price_limit: Decimal | Expression) -> Rows:
    """Return one row per subscription with a usage type whose summed price reached the limit.

    Each row has subscription_id, `<type>_price` for every type (None without usage of that type)
    and rank, the negative of the largest price. So the order by rank and subscription ascends in
    both columns.
    """
    by_type = {
        f"{usage_type.value}_price": Sum("total_price", filter=Q(usage_type=usage_type.value))
        for usage_type in UsageType
    }
    return (
        daily.values("subscription_id")
        .annotate(**by_type)
        .alias(largest_price=Greatest(*by_type))
        .filter(largest_price__gte=price_limit)
        .annotate(rank=Negative("largest_price"))
    )


def exceeded(
    prices: Iterable[Decimal | None], price_limit: Decimal
) -> list[tuple[UsageType, Decimal, Decimal]]:
    """Return each usage type whose price reached the limit, its price, and the excess.

    `prices` are the prices of a row of over_limit, in the order of UsageType.
    """
    return [
        (usage_type, price, EXACT.subtract(price, price_limit))
        for usage_type, price in zip(UsageType, prices, strict=True)
        if price is not None and price >= price_limit
    ]
