"""Daily totals for benchmarks of reads, written directly to the sealed table."""

from calendar import monthrange
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta

from django.db import connection
from django.db.models.functions import Now

from benchmarks.raw import add, execute, fill
from benchmarks.refresh_benchmark import refresh_or_fail
from usage.models import UsageState
from usage.services.capture.sequences import move_forward
from usage.services.raw.clock import today

# Few subscriptions spend much: a price depends on the subscription and type, times a random factor.
SEALED_DAY = """
    INSERT INTO usage_daily_sealed (
        subscription_id, day, usage_type, total_price, total_usage, record_count, last_usage_at
    )
    SELECT
        numbers.id,
        %(day)s,
        types.usage_type,
        round((0.7 * random() / (0.001 + numbers.id * types.factor %% 4294967296
            / 4294967296.0::double precision) ^ 0.6)::numeric, types.scale),
        floor(random() * 10000000)::bigint,
        1 + floor(random() * 30)::bigint,
        usage_day_end(%(day)s) - (1 + random() * 80000) * interval '1 second'
    FROM generate_series(1, %(subscriptions)s::bigint) AS numbers (id)
    CROSS JOIN (VALUES ('data', 2654435761, 8), ('voice', 2246822519, 4))
        AS types (usage_type, factor, scale)
    ORDER BY numbers.id, types.usage_type
"""


@dataclass(frozen=True)
class Stock:
    """The days with totals: every day of one month is sealed; yesterday and today are open."""

    month: date
    today: date
    subscriptions: int

    @property
    def last_day(self) -> date:
        return self.month.replace(day=monthrange(self.month.year, self.month.month)[1])


def stock_up(*, subscriptions: int, raw_records: int, open_records: int) -> Stock:
    """Make totals of every subscription and type for each day of a month of 31 days.

    Queries of raw records need some of that month: `raw_records`, fewer than the totals would need.
    Yesterday and today are open, with `open_records` each.
    """
    stock = Stock(_month_of_31_days(), today(), subscriptions)
    fill(
        today=stock.last_day,
        days=stock.last_day.day,
        records=raw_records,
        subscriptions=subscriptions,
    )
    with key_made_at_the_end(), connection.cursor() as cursor:
        for number in range(stock.last_day.day):
            cursor.execute(
                SEALED_DAY,
                {"day": stock.month + timedelta(number), "subscriptions": subscriptions},
            )
    yesterday = stock.today - timedelta(1)
    sealed_before = max(yesterday, stock.last_day + timedelta(1))
    move_forward("usage_logging_before", sealed_before)
    UsageState.objects.update(
        sealed_before=sealed_before, fence_day=sealed_before, fence=0, as_of=Now()
    )
    for day in {sealed_before, stock.today}:
        add(day=day, records=open_records, subscriptions=subscriptions)
    refresh_or_fail()
    execute("VACUUM ANALYZE")
    return stock


@contextmanager
def key_made_at_the_end() -> Iterator[None]:
    """Drop the key of the sealed table, and make it again after the block: with the key, each day
    would rewrite all pages of the index."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conname = 'usage_daily_sealed_pkey'"
        )
        (key,) = cursor.fetchone()
    execute("ALTER TABLE usage_daily_sealed DROP CONSTRAINT usage_daily_sealed_pkey")
    yield
    execute(f"ALTER TABLE usage_daily_sealed ADD CONSTRAINT usage_daily_sealed_pkey {key}")


def _month_of_31_days() -> date:
    """Return the first day of the latest past month of 31 days."""
    month = today().replace(day=1) - timedelta(1)
    while month.day != 31:
        month = month.replace(day=1) - timedelta(1)
    return month.replace(day=1)
