"""Generator of sample usage, for demonstrations and benchmarks, inside PostgreSQL.

Each record depends only on the arguments and its row number. So the same arguments generate the
same records, and a second run adds none.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from itertools import accumulate
from typing import Any

from django.db import IntegrityError, connection, transaction

from usage.errors import UsageError
from usage.models import RECORD_MODELS, UsageType
from usage.services.raw import clock
from usage.services.raw.partitions import try_to_make_partitions
from usage.sql import queries

MOST_SUBSCRIPTIONS = 1_000_000
MOST_DAYS = 3_660
MOST_RECORDS = 1_000_000_000
FIRST_DAY = date(2000, 1, 2)  # all of it lies in the year 2000 in every zone
STEP_RECORDS = 250_000
PATIENCE_SECONDS = 10.0

# Weights of the 24 hours of a day, and of the days of a week.
WORKDAY_HOURS = [
    *(14, 9, 6, 4, 4, 7, 18, 35, 48, 52, 54, 56),
    *(60, 56, 52, 52, 55, 62, 68, 74, 76, 68, 46, 24),
]
WEEKEND_HOURS = [
    *(26, 20, 14, 8, 5, 5, 8, 14, 26, 42, 54, 60),
    *(62, 60, 58, 56, 56, 58, 62, 68, 72, 68, 56, 42),
]
WEEK = [100, 102, 103, 105, 112, 84, 72]  # Monday first

# During a step nobody may delete a subscription that gets usage. To lock each row, as the importer
# does, would take longer than to generate the records.
LOCK_SUBSCRIPTIONS = "LOCK TABLE usage_subscription IN SHARE MODE"


@dataclass(frozen=True)
class Sample:
    """How the sample records of a usage type look: how many of them there are beside others, their
    largest quantity and the price of a unit."""

    share: int = 1
    most_quantity: int = 10
    rate: Decimal = Decimal("0.05")


SAMPLES = {
    UsageType.DATA: Sample(share=3, most_quantity=200_000, rate=Decimal("0.00000083")),
    UsageType.VOICE: Sample(share=2, most_quantity=3_600, rate=Decimal("0.0025")),
}


class GenerateArgumentError(UsageError):
    """An argument of generate_usage is out of bounds."""


@dataclass(frozen=True)
class GenerateReport:
    """The result of generate_usage: records of whole days in USAGE_TIME_ZONE."""

    added: int
    already_known: int
    first_day: date
    last_day: date
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.added:,} records added, {self.already_known:,} already known, from "
            f"{self.first_day} to {self.last_day} in {self.seconds:.1f} s"
        )


def generate_usage(
    *,
    subscriptions: int,
    days: int,
    records: int,
    seed: int = 1,
    until: date | None = None,
    on_progress: Callable[[int], object] | None = None,
) -> GenerateReport:
    """Generate records of the days before `until` (by default today), so none is in the future.

    `on_progress` is called with the number of records of each step. Each step is a transaction of
    its own, so do not call this function in a transaction. Raises GenerateArgumentError.
    """
    started = time.monotonic()
    today = clock.today()
    until = until or today
    _refuse_out_of_bounds("--subscriptions", subscriptions, MOST_SUBSCRIPTIONS)
    _refuse_out_of_bounds("--days", days, MOST_DAYS)
    _refuse_out_of_bounds("--records", records, MOST_RECORDS)
    if until > today or (until - FIRST_DAY).days < days:
        raise GenerateArgumentError(
            f"--until {until} --days {days}: the {days:,} days before {until} must lie between "
            f"{FIRST_DAY} and {today} (today). Change --until or --days."
        )
    first_day = until - timedelta(days=days)
    try_to_make_partitions(
        [first_day + timedelta(days=number) for number in range(days)], seconds=PATIENCE_SECONDS
    )
    with connection.cursor() as cursor:
        cursor.execute(queries.read("make_subscriptions"), {"subscriptions": subscriptions})
        cursor.execute("DROP TABLE IF EXISTS pg_temp.usage_generate_subscription")
        cursor.execute(queries.read("number_subscriptions"), {"subscriptions": subscriptions})
        cursor.execute("ANALYZE pg_temp.usage_generate_subscription")
    seeds = _seeds(seed, subscriptions, days, records, until)
    added = 0
    for day, first, last in _steps(first_day, days, records):
        try:
            added += _make_records(day, first, last, subscriptions, seeds)
        except IntegrityError as error:  # retention has closed the day
            raise GenerateArgumentError(f"--days {days}: {error}") from error
        if on_progress:
            on_progress(last - first + 1)
    return GenerateReport(
        added, records - added, first_day, until - timedelta(1), time.monotonic() - started
    )


def _make_records(day: date, first: int, last: int, subscriptions: int, seeds: list[int]) -> int:
    hours = WEEKEND_HOURS if day.weekday() >= 5 else WORKDAY_HOURS
    starts = [0, *accumulate(hours)]
    added = 0
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(LOCK_SUBSCRIPTIONS)
        for statement, parameters in _statements():
            cursor.execute(
                statement,
                {
                    **parameters,
                    "day": day,
                    "first": first,
                    "last": last,
                    "subscriptions": subscriptions,
                    "seed": seeds[0],
                    "other_seed": seeds[1],
                    "starts": [start / starts[-1] for start in starts[:-1]],
                    "widths": [width / starts[-1] for width in hours],
                },
            )
            added += cursor.rowcount
    return added


def _statements() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield for each usage type the statement that adds its records, and its own parameters: each
    type has its share of the row numbers."""
    samples = [(model, SAMPLES.get(code, Sample())) for code, model in RECORD_MODELS.items()]
    all_shares = sum(sample.share for _, sample in samples)
    first_share = 0
    for model, sample in samples:
        yield (
            queries.read(
                "make_records", _table=model._meta.db_table, _quantity=model.quantity_column
            ),
            {
                "all_shares": all_shares,
                "first_share": first_share,
                "last_share": first_share + sample.share - 1,
                "most_quantity": sample.most_quantity,
                "rate": sample.rate,
            },
        )
        first_share += sample.share


def _seeds(*arguments: object) -> list[int]:
    """Return two numbers of 64 bits that depend on the arguments.

    Runs with different arguments have different numbers, so they share no record.
    """
    digest = hashlib.sha256(repr([str(argument) for argument in arguments]).encode()).digest()
    return [int.from_bytes(part, signed=True) for part in (digest[:8], digest[8:16])]


def _steps(first_day: date, days: int, records: int) -> Iterator[tuple[date, int, int]]:
    """Yield day, first and last row number of each step; the rows of a day follow its weight."""
    weights = [WEEK[(first_day + timedelta(days=number)).weekday()] for number in range(days)]
    total = sum(weights)
    begin = 0
    for number, weight_so_far in enumerate(accumulate(weights)):
        end = records * weight_so_far // total
        for first in range(begin, end, STEP_RECORDS):
            yield first_day + timedelta(days=number), first, min(first + STEP_RECORDS, end) - 1
        begin = end


def _refuse_out_of_bounds(option: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise GenerateArgumentError(f"{option} must be from 1 to {most:,}, not {value:,}.")
