"""Time that the period totals add to a refresh."""

import argparse
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from unittest.mock import patch

from benchmarks.raw import add, seconds
from benchmarks.read_data import Stock
from benchmarks.refresh_benchmark import refresh_or_fail
from usage.models import RefreshRun
from usage.services.totals import open_view, periods
from usage.sql import queries

Figures = dict[str, object]

CHANGED = (1_000, 10_000, 100_000)
TARGETS = {10_000: " (at most 1.3)"}


def measure_ticks(
    options: argparse.Namespace, stock: Stock, _token: str
) -> tuple[Figures, Figures]:
    """Return ratios and seconds of refreshes with and without period totals, alternately."""
    ratios: Figures = {}
    details: Figures = {}
    for records in CHANGED:
        kept: list[float] = []
        left_out: list[float] = []
        turns: list[tuple[list[float], Callable[[], AbstractContextManager]]] = [
            (kept, nullcontext),
            (left_out, without_period_totals),
        ]
        phases = {}
        for number in range(options.rounds):
            for times, how in turns[:: -1 if number % 2 else 1]:
                add(day=stock.today, records=records, subscriptions=stock.subscriptions)
                with how():
                    times.append(seconds(refresh_or_fail))
                if times is kept:
                    phases = RefreshRun.objects.latest("pk").phases
                else:
                    # This one recomputes the period totals.
                    refresh_or_fail()
        name = f"tick of {records:,} new records"
        ratios[f"{name}: times what it takes without period totals{TARGETS.get(records, '')}"] = (
            round(statistics.median(kept) / statistics.median(left_out), 2)
        )
        details[f"{name}: s with period totals, and without"] = [
            round(statistics.median(times), 3) for times in (kept, left_out)
        ]
        details[f"{name}: phases"] = phases
    return ratios, details


@contextmanager
def without_period_totals() -> Iterator[None]:
    """Make refreshes skip the period totals; only the table of changes stays, empty.

    The next refresh finds an open view with another fingerprint and recomputes the period totals.
    """
    read = queries.read

    def without_fingerprints(name: str, **identifiers: str) -> str:
        return read(name, **identifiers).replace(read("_fingerprint"), "0")

    with ExitStack() as stack:
        stack.enter_context(patch.object(queries, "read", without_fingerprints))
        stack.enter_context(patch.object(open_view, "fingerprint", lambda: None))
        for name in ("fill", "apply_changes", "add_up_again"):
            stack.enter_context(patch.object(periods, name, lambda *_: ""))
        yield
