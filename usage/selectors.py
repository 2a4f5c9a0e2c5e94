"""Every question asked of the totals, as querysets.

A question about totals takes `daily`, the daily totals it is to be answered from, already
narrowed to the days, types and subscriptions that are meant. Money is Decimal in the currency of
the deployment, quantities are kilobytes (data) or seconds (voice).
"""

from datetime import date
from decimal import Decimal
from typing import Any, TypeAlias

from django.db.models import (
    DateField,
    DateTimeField,
    F,
    Func,
    Max,
    Min,
    Q,
    QuerySet,
    Sum,
    Value,
)
from django.db.models.functions import Greatest

from usage.errors import TotalsNotFilledError
from usage.models import (
    DailyUsage,
    DataUsageRecord,
    Subscription,
    UsageState,
    UsageType,
    VoiceUsageRecord,
)

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


def totals_state() -> UsageState:
    """What the totals are as of and the zone their days are cut in.

    Read before the totals, it is never later than the truth. Raises TotalsNotFilledError when
    there are no totals yet.
    """
    state = UsageState.objects.first()
    if state is None or state.as_of is None:
        raise TotalsNotFilledError
    return state


def daily_rows(*, daily: QuerySet[DailyUsage]) -> Rows:
    """The daily totals as they stand, one row per subscription, day and usage type."""
    return daily.values(
        "subscription_id",
        "day",
        "usage_type",
        "total_price",
        "total_usage",
        "record_count",
        "last_usage_at",
    )


def type_totals(*, daily: QuerySet[DailyUsage]) -> Rows:
    """One row per subscription and usage type that had usage, added up over its days."""
    return daily.values("subscription_id", "usage_type").annotate(
        price=Sum("total_price"),
        usage=Sum("total_usage"),
        records=Sum("record_count"),
        first_day=Min("day"),
        last_day=Max("day"),
    )


def over_limit(*, daily: QuerySet[DailyUsage], price_limit: Decimal) -> Rows:
    """One row per subscription with a usage type whose price, added up, reached the limit.

    Each row has subscription_id, `<type>_price` for every type (None without usage of that type)
    and largest_price, the largest of these.
    """
    by_type = {
        f"{usage_type.value}_price": Sum("total_price", filter=Q(usage_type=usage_type.value))
        for usage_type in UsageType
    }
    return (
        daily.values("subscription_id")
        .annotate(**by_type)
        .annotate(largest_price=Greatest(*by_type))
        .filter(largest_price__gte=price_limit)
    )


def day_records(*, subscription_id: int, usage_type: UsageType, day: date) -> Rows:
    """The raw records behind one daily total: id, usage_date, price and quantity.

    The bounds on usage_date only spare the other partitions; usage_day decides.
    """
    records: QuerySet[Any]
    if usage_type == UsageType.DATA:
        records, quantity = DataUsageRecord.objects.all(), "kilobytes_used"
    else:
        records, quantity = VoiceUsageRecord.objects.all(), "seconds_used"
    whole_day = Value(day, output_field=DateField())
    return (
        records.alias(day=UsageDay("usage_date"))
        .filter(
            subscription_id=subscription_id,
            usage_date__gte=UsageDayStart(whole_day),
            usage_date__lt=UsageDayEnd(whole_day),
            day=day,
        )
        .values("id", "usage_date", "price", quantity=F(quantity))
    )


def subscription_rows(*, subscriptions: QuerySet[Subscription]) -> Rows:
    """The subscriptions as they stand: subscription_id, external_id and created_at."""
    return subscriptions.values("external_id", "created_at", subscription_id=F("id"))
