"""Seconds from the commit of a record until the totals have it, at the default schedule."""

import argparse
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_urlsafe
from signal import SIGTERM

import psycopg2
from django.conf import settings
from django.db import connection

from benchmarks.raw import fill
from benchmarks.refresh_benchmark import Figures, seal
from benchmarks.serving import ROOT, production
from bin import place as places
from bin import processes, spawn
from bin.broker import Valkey
from usage.models import RefreshRun
from usage.services.raw.clock import today

DAYS = 5
SUBSCRIPTIONS = 10_000
WATCHED = 1_000_000_000
SECONDS_BETWEEN_COMMITS = 0.1
SECONDS_BETWEEN_LOOKS = 0.05
# One record in a hundred is of a sealed day. The last one belongs to the watched subscription.
WRITE = """
    INSERT INTO usage_datausagerecord (subscription_id, usage_date, price, kilobytes_used)
    SELECT
        1 + floor(random() * %(subscriptions)s)::bigint,
        now() - CASE WHEN random() < 0.01 THEN interval '3 days' ELSE interval '0' END,
        0.01,
        100
    FROM generate_series(2, %(records)s)
    UNION ALL
    SELECT %(watched)s, now(), 0, 0
"""
SEEN = """
    SELECT coalesce(sum(record_count), 0) FROM usage_daily WHERE subscription_id = %(watched)s
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--records-a-second", type=int, default=500)
    parser.add_argument("--stock", type=int, default=2_000_000, help="records before the start")


def run(options: argparse.Namespace) -> Figures:
    """Write at a steady rate while a worker and beat run; measure when each commit is visible."""
    settings.USAGE_OPEN_DAYS = 2
    fill(today=today(), days=DAYS, records=options.stock, subscriptions=SUBSCRIPTIONS)
    seal()
    newest = RefreshRun.objects.latest("id").pk
    with _worker_and_beat():
        delays = _watch(options)
    runs = RefreshRun.objects.filter(pk__gt=newest)
    took = [run.seconds or 0 for run in runs if run.status == RefreshRun.Status.SUCCESS]
    return {
        "commit to visible, p50, s": round(statistics.median(delays), 1),
        "commit to visible, p99, s": round(statistics.quantiles(delays, n=100)[98], 1),
        "commit to visible, longest, s": round(max(delays), 1),
        "commits watched": len(delays),
        "interval of the schedule, s": settings.USAGE_REFRESH_SECONDS,
        "refreshes": len(took),
        "refreshes that did not succeed": len(runs) - len(took),
        "a refresh, median, s": round(statistics.median(took), 2),
        "late keys repaired": sum(run.keys_repaired for run in runs),
    }


def _watch(options: argparse.Namespace) -> list[float]:
    """Return the seconds from each commit until a reader saw its record."""
    committed: list[float] = []
    seen: list[float] = []
    writer = threading.Thread(target=_write, args=[options, committed], daemon=True)
    deadline = time.monotonic() + options.minutes * 60
    writer.start()
    with connection.cursor() as cursor:
        while writer.is_alive() or len(seen) < len(committed):
            cursor.execute(SEEN, {"watched": WATCHED})
            (count,) = cursor.fetchone()
            now = time.monotonic()
            seen.extend([now] * (int(count) - len(seen)))
            if now > deadline + 3 * settings.USAGE_REFRESH_SECONDS:
                raise RuntimeError(f"{len(committed) - len(seen)} commits were never visible.")
            time.sleep(SECONDS_BETWEEN_LOOKS)
    return [after - before for before, after in zip(committed, seen, strict=True)]


def _write(options: argparse.Namespace, committed: list[float]) -> None:
    records = max(2, round(options.records_a_second * SECONDS_BETWEEN_COMMITS))
    values = {"records": records, "subscriptions": SUBSCRIPTIONS, "watched": WATCHED}
    session = psycopg2.connect(production()["DATABASE_URL"])
    session.autocommit = True
    began = time.monotonic()
    with session.cursor() as cursor:
        while (passed := time.monotonic() - began) < options.minutes * 60:
            cursor.execute(WRITE, values)
            committed.append(time.monotonic())
            time.sleep(max(0, len(committed) * SECONDS_BETWEEN_COMMITS - passed))
    session.close()


@contextmanager
def _worker_and_beat() -> Iterator[None]:
    """Run a worker and beat at the default schedule with a new broker."""
    place = places.passing_place(places.server_account())
    broker = Valkey(place, place / "valkey.log", token_urlsafe(24))
    started = []
    try:
        broker.start()
        environment = production(REDIS_URL=broker.url, USAGE_OPEN_DAYS="2")
        with tempfile.TemporaryFile() as log:
            for command in (processes.worker(), processes.beat(str(place / "schedule"))):
                started.append(
                    spawn.spawn(
                        processes.under(sys.executable, command),
                        directory=ROOT,
                        output=log.fileno(),
                        environment=environment,
                    )
                )
            yield
    finally:
        for process in started:
            spawn.end(process, (SIGTERM, 25.0))
        broker.stop()
        shutil.rmtree(Path(place), ignore_errors=True)
