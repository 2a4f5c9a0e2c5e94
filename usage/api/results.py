"""How a row looks in JSON. Money is a string in plain notation with every digit it has."""

from decimal import Context, Decimal, Inexact
from typing import Any

from usage.models import UsageType

_EXACT = Context(prec=1000, traps=[Inexact])


def plain(amount: Decimal) -> str:
    """The amount without an exponent, its zeros kept: 0.00000000, never 0E-8."""
    return format(amount, "f")


def exceeded(row: dict[str, Any], price_limit: Decimal) -> dict[str, Any]:
    totals = {usage_type: row[f"{usage_type.value}_price"] for usage_type in UsageType}
    return {
        "subscription_id": row["subscription_id"],
        "exceeded": [
            {
                "usage_type": usage_type.value,
                "total_price": plain(total),
                "exceeded_by": plain(_EXACT.subtract(total, price_limit)),
            }
            for usage_type, total in totals.items()
            if total is not None and total >= price_limit
        ],
    }


def type_total(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "subscription_id": row["subscription_id"],
        "usage_type": row["usage_type"],
        "unit": UsageType(row["usage_type"]).unit,
        "total_price": plain(row["price"]),
        "total_usage": row["usage"],
        "record_count": row["records"],
        "first_day": row["first_day"],
        "last_day": row["last_day"],
    }


def daily_total(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "subscription_id": row["subscription_id"],
        "day": row["day"],
        "usage_type": row["usage_type"],
        "unit": UsageType(row["usage_type"]).unit,
        "total_price": plain(row["total_price"]),
        "total_usage": row["total_usage"],
        "record_count": row["record_count"],
        "last_usage_at": row["last_usage_at"],
    }


def record(row: dict[str, Any], usage_type: UsageType) -> dict[str, Any]:
    return {
        "id": row["id"],
        "usage_date": row["usage_date"],
        "price": plain(row["price"]),
        "quantity": row["quantity"],
        "unit": usage_type.unit,
    }


def subscription(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "subscription_id": row["subscription_id"],
        "external_id": row["external_id"],
        "created_at": row["created_at"],
    }
