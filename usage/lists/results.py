"""Results of lists, made from rows. Money and moments are text in one notation.

The arguments are the columns of the selectors, in their order.
"""

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from usage import selectors
from usage.lists import result_types
from usage.models import UsageType
from usage.notation import amount_text, moment_text

# After a rollback the database may have totals of a type that this release does not know.
UNITS = {usage_type.value: usage_type.unit for usage_type in UsageType}


def exceeded(
    subscription_id: int,
    prices: Sequence[Decimal | None],
    price_limit: Decimal,
) -> result_types.OverLimit:
    """Return a result of over-limit; `prices` has one price a usage type, in their order."""
    return {
        "subscription_id": subscription_id,
        "exceeded": [
            {
                "usage_type": usage_type.value,
                "total_price": amount_text(price),
                "exceeded_by": amount_text(by),
            }
            for usage_type, price, by in selectors.exceeded(prices, price_limit)
        ],
    }


def type_total(
    subscription_id: int,
    usage_type: str,
    price: Decimal,
    usage: Decimal,
    records: Decimal,
    first_day: date,
    last_day: date,
) -> result_types.TypeTotal:
    return {
        "subscription_id": subscription_id,
        "usage_type": usage_type,
        "unit": UNITS.get(usage_type, ""),
        "total_price": amount_text(price),
        # A sum of bigints is a numeric in PostgreSQL, a Decimal here.
        "total_usage": int(usage),
        "record_count": int(records),
        "first_day": first_day,
        "last_day": last_day,
    }


def daily_total(
    subscription_id: int,
    day: date,
    usage_type: str,
    total_price: Decimal,
    total_usage: int,
    record_count: int,
    last_usage_at: datetime,
) -> result_types.DailyTotal:
    return {
        "subscription_id": subscription_id,
        "day": day,
        "usage_type": usage_type,
        "unit": UNITS.get(usage_type, ""),
        "total_price": amount_text(total_price),
        "total_usage": total_usage,
        "record_count": record_count,
        "last_usage_at": moment_text(last_usage_at),
    }


def record(
    identity: UUID, usage_date: datetime, price: Decimal, quantity: int, *, unit: str
) -> result_types.UsageRecord:
    return {
        "id": identity,
        "usage_date": moment_text(usage_date),
        "price": amount_text(price),
        "quantity": quantity,
        "unit": unit,
    }


def subscription(
    subscription_id: int, external_id: str, created_at: datetime
) -> result_types.Subscription:
    return {
        "subscription_id": subscription_id,
        "external_id": external_id,
        "created_at": moment_text(created_at),
    }
