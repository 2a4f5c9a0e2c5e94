"""Steps of tests: given() raw records, expect() exactly these daily totals, both as small tables.

Numbers in the tables are text and become exact decimals.
"""

from datetime import date, datetime
from decimal import Decimal

from tests.factories import data_record, make_subscription, refresh_totals, voice_record
from usage.models import DailyUsage, Subscription


def given(table: str) -> None:
    """Store records: usage type, subscription, moment with its offset, price, quantity."""
    for line in _lines(table):
        usage_type, name, at, price, quantity = line
        subscription, _ = Subscription.objects.get_or_create(external_id=name)
        if usage_type == "data":
            data_record(subscription, at, price=price, kilobytes=int(quantity))
        else:
            voice_record(subscription, at, price=price, seconds=int(quantity))


def expect(table: str) -> None:
    """Refresh, then compare: subscription, day, usage type, price, usage, records, last usage."""
    refresh_totals()
    assert stored_totals() == [
        (
            name,
            date.fromisoformat(day),
            usage_type,
            Decimal(total_price),
            int(total_usage),
            int(record_count),
            datetime.fromisoformat(last_usage_at),
        )
        for name, day, usage_type, total_price, total_usage, record_count, last_usage_at in _lines(
            table
        )
    ]


def stored_totals() -> list[tuple[object, ...]]:
    """Return every daily total that readers see now, in the columns and order of expect()."""
    return list(
        DailyUsage.objects.order_by("subscription__external_id", "day", "usage_type").values_list(
            "subscription__external_id",
            "day",
            "usage_type",
            "total_price",
            "total_usage",
            "record_count",
            "last_usage_at",
        )
    )


def _lines(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines() if line.strip()]


def anna_and_bob() -> None:
    """Store subscriptions 1 and 2 with three records; one price has more digits than a float."""
    for number, name in enumerate(["anna", "bob"], start=1):
        make_subscription(name, id=number)
    given("""
        data  anna 2026-11-01T10:00:00Z 1.10       10
        voice anna 2026-11-02T10:00:00Z 2.20       20
        data  bob  2026-11-03T10:00:00Z 3.30000001 30
    """)
