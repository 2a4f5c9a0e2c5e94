"""Bytes, WAL and refresh seconds by the size of a day, for docs/capacity.md."""

import argparse
import os
import statistics
from datetime import date, timedelta
from pathlib import Path

from django.conf import settings
from django.db import connection

from benchmarks.raw import KINDS, execute, fill, one, seconds, start_over
from benchmarks.refresh_benchmark import refresh_or_fail, seal
from usage.models import RefreshRun
from usage.services.raw.clock import today

Figures = dict[str, object]

BATCH = 50_000
SCALES = {"data": 8, "voice": 2}
# Records arrive in order of time, of random subscriptions.
ARRIVE = """
    INSERT INTO usage_{kind}usagerecord (subscription_id, usage_date, {quantity}, price)
    SELECT
        1 + floor(random() * %(subscriptions)s)::bigint,
        usage_day_start(%(day)s) + number::float8 / %(of_day)s * interval '86000 seconds',
        floor(random() * 100000)::bigint,
        round(random()::numeric, {scale})
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS numbers (number)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subscriptions", type=int, default=100_000)
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[500_000, 1_000_000, 2_000_000, 4_000_000],
        help="records a day, ascending; two days are open",
    )
    parser.add_argument(
        "--new", type=int, nargs="+", default=[10_000, 50_000], help="records a tick"
    )
    parser.add_argument(
        "--checkpoint",
        action="store_true",
        help="also measure WAL after a checkpoint; the role needs pg_checkpoint",
    )


def run(options: argparse.Namespace) -> Figures:
    """Grow two open days step by step and measure at each size; then sizes of totals."""
    settings.USAGE_OPEN_DAYS = 2
    last = today()
    start_over()
    fill(today=last, days=4, records=0, subscriptions=options.subscriptions)
    figures: Figures = {}
    sealed_day = last - timedelta(2)
    most = options.sizes[-1]
    arrive(options, sealed_day, 0, options.sizes[0], most)
    seal()
    run = RefreshRun.objects.filter(phases__has_key="seal").latest("phases__seal")
    figures[f"sealing {options.sizes[0]:,} records, s"] = round(run.phases["seal"], 2)
    reached = 0
    for size in options.sizes:
        before = wal()
        for day in (last - timedelta(1), last):
            arrive(options, day, reached, size, most)
        loaded = 2 * (size - reached)
        label = f"{size:,} a day"
        figures[f"{label}: WAL, bytes a record while loading {loaded:,}"] = round(
            (wal() - before) / loaded
        )
        figures[f"{label}: bytes a raw record of today [table, index]"] = raw_bytes(last)
        execute("VACUUM ANALYZE usage_datausagerecord", "VACUUM ANALYZE usage_voiceusagerecord")
        refresh_or_fail()
        reached = size
        for new in options.new:
            figures |= ticks(options, last, label, new)
        if options.checkpoint:
            execute("CHECKPOINT")
            before = wal()
            arrive(options, last, reached, reached + BATCH, most)
            figures[f"{label}: WAL, bytes a record of {BATCH:,} after a checkpoint"] = round(
                (wal() - before) / BATCH
            )
            execute("CHECKPOINT")
            figures |= ticks(options, last, f"{label}, after a checkpoint", options.new[0], 1)
    return figures | sizes_of_totals()


def arrive(
    options: argparse.Namespace, day: date, first: int, last: int, of_day: int, batch: int = BATCH
) -> None:
    """Insert the records numbered from first up to last, half of each type, in batches."""
    with connection.cursor() as cursor:
        for begin in range(first, last, batch):
            end = min(begin + batch, last)
            middle = (begin + end) // 2
            for (kind, quantity), (low, high) in zip(
                KINDS.items(), ((begin + 1, middle), (middle + 1, end)), strict=True
            ):
                cursor.execute(
                    ARRIVE.format(kind=kind, quantity=quantity, scale=SCALES[kind]),
                    {
                        "subscriptions": options.subscriptions,
                        "day": day,
                        "of_day": of_day * 1.2,
                        "first": low,
                        "last": high,
                    },
                )


def ticks(
    options: argparse.Namespace, day: date, label: str, new: int, rounds: int | None = None
) -> Figures:
    """Return medians of refreshes, each after so many new records of today."""
    times, written, changed, phases, processor = [], [], [], [], []
    for _ in range(rounds or options.rounds):
        arrive(options, day, 0, new, new)
        before, used = wal(), processor_seconds()
        times.append(seconds(refresh_or_fail))
        processor.append(processor_seconds() - used)
        written.append(wal() - before)
        run = RefreshRun.objects.latest("pk")
        changed.append(run.rows_changed or 0)
        phases.append(run.phases)
    middle = sorted(range(len(times)), key=times.__getitem__)[len(times) // 2]
    return {
        f"{label}: processor s a refresh after {new:,} new": round(statistics.median(processor), 2),
        f"{label}: s a refresh after {new:,} new [fastest, median]": [
            round(min(times), 2),
            round(statistics.median(times), 2),
        ],
        f"{label}: phases of the median after {new:,} new": phases[middle],
        f"{label}: rows changed after {new:,} new, WAL bytes a changed row": [
            round(statistics.median(changed)),
            round(statistics.median(written) / max(statistics.median(changed), 1)),
        ],
    }


def processor_seconds() -> float:
    """Return the processor seconds of our session and of all parallel workers that have ended, or 0
    if the server runs on another machine."""
    session = Path(f"/proc/{one('SELECT pg_backend_pid()')}/stat")
    if not session.exists():
        return 0
    fields = session.read_text().rpartition(")")[2].split()
    server = Path(f"/proc/{fields[1]}/stat").read_text().rpartition(")")[2].split()
    return (sum(map(int, fields[11:13])) + sum(map(int, server[13:15]))) / os.sysconf("SC_CLK_TCK")


def wal() -> int:
    """Return the bytes of WAL since the server was made."""
    return one("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")


def raw_bytes(day: date) -> list[float]:
    """Return the bytes a record of the tables of a day, and of their indexes."""
    names = [f"usage_{kind}usagerecord_p{day:%Y%m%d}" for kind in KINDS]
    rows = sum(one(f"SELECT count(*) FROM {name}") for name in names)
    return [
        round(sum(one(f"SELECT {function}('{name}')") for name in names) / rows, 1)
        for function in ("pg_table_size", "pg_indexes_size")
    ]


def sizes_of_totals() -> Figures:
    """Return the bytes a row of the totals, and of the totals of periods built anew."""
    figures: Figures = {}
    for name, state in (
        ("usage_daily_sealed", "as written"),
        ("usage_daily_open", "after all refreshes"),
        ("usage_period_total", "after all refreshes"),
        ("usage_period_total", "built anew"),
    ):
        if state == "built anew":
            execute(f"VACUUM FULL {name}")
        rows = one(f"SELECT count(*) FROM {name}")
        figures[f"{name} {state}: rows, bytes a row [table, indexes]"] = [
            rows,
            round(one(f"SELECT pg_table_size('{name}')") / rows, 1),
            round(one(f"SELECT pg_indexes_size('{name}')") / rows, 1),
        ]
    return figures
