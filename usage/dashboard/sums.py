"""Sums of the rows of a page."""

from collections.abc import Sequence
from decimal import Decimal
from functools import reduce
from typing import Any

from usage.models import UsageType
from usage.selectors import EXACT


def sums_by_type(days: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return price, usage (in `unit`) and records of each type in the rows of day_totals."""
    sums = []
    for usage_type in UsageType:
        rows = [row for row in days if row["usage_type"] == usage_type.value]
        if rows:
            prices = [row["price"] for row in rows]
            sums.append(
                {
                    "usage_type": usage_type.value,
                    "label": usage_type.label,
                    "unit": usage_type.unit,
                    "price": reduce(EXACT.add, prices, Decimal(0)),
                    "usage": sum(int(row["usage"]) for row in rows),
                    "records": sum(int(row["records"]) for row in rows),
                }
            )
    return sums
