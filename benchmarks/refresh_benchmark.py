"""Time of a refresh after new and late records, compared with one materialized view of all days."""

import argparse
import statistics
import time
from collections.abc import Callable
from datetime import date, timedelta

from django.conf import settings

from benchmarks.loading import measure_loading
from benchmarks.raw import add, execute, fill, one, seconds, start_over
from usage.models import RefreshRun, UsageState
from usage.services.raw.clock import today
from usage.services.totals.refresh import refresh

ONE_VIEW = """
    SELECT subscription_id, usage_day(usage_date) AS day, 'data'::text AS usage_type,
        sum(price) AS total_price, sum(kilobytes_used)::bigint AS total_usage,
        count(*) AS record_count, max(usage_date) AS last_usage_at
    FROM usage_datausagerecord GROUP BY subscription_id, usage_day(usage_date)
    UNION ALL
    SELECT subscription_id, usage_day(usage_date), 'voice'::text,
        sum(price), sum(seconds_used)::bigint, count(*), max(usage_date)
    FROM usage_voiceusagerecord GROUP BY subscription_id, usage_day(usage_date)
"""
Figures = dict[str, object]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", type=int, default=20_000_000)
    parser.add_argument("--days", type=int, default=31)
    parser.add_argument("--subscriptions", type=int, default=10_000)
    parser.add_argument("--new", type=int, default=100_000, help="records before each refresh")
    parser.add_argument("--ticks", type=int, default=200, help="refreshes in a row; 0 for none")
    parser.add_argument("--load", type=int, default=500_000, help="records to load; 0 for none")
    parser.add_argument(
        "--history",
        type=int,
        nargs="*",
        default=[10, 30, 60, 90],
        metavar="DAYS",
        help="days of history behind the same refresh; no number skips this part",
    )


def run(options: argparse.Namespace) -> Figures:
    """Run every case on the same raw data; the approaches alternate within each round."""
    settings.USAGE_OPEN_DAYS = 2
    # A refresh has these settings; the other approaches get the same.
    execute("SET work_mem = '128MB'", "SET jit = off")
    first = today()
    figures: Figures = {}
    start_over()
    fill(
        today=first,
        days=options.days,
        records=options.records,
        subscriptions=options.subscriptions,
    )
    figures |= _first_fill(options)
    figures |= _ticks(options, first)
    execute("DROP MATERIALIZED VIEW one_concurrently", "DROP MATERIALIZED VIEW one_plainly")
    if options.ticks:
        figures |= _many_ticks(options, first)
    if options.history:
        figures |= _history(options, first)
    if options.load:
        figures |= measure_loading(options, first)
    return figures


def refresh_or_fail() -> None:
    """Refresh the totals. Raises RuntimeError if the run fails."""
    run = refresh(trigger=RefreshRun.Trigger.COMMAND)
    if run.status != RefreshRun.Status.SUCCESS:
        raise RuntimeError(run.error)


def seal() -> None:
    """Refresh until every day outside the window is sealed."""
    for _ in range(100):
        refresh_or_fail()
        state = UsageState.objects.get()
        if state.fence_day is not None and state.sealed_before == state.fence_day:
            return
        time.sleep(0.1)
    raise RuntimeError("Another transaction of this server stays open, so the fence does not pass.")


def _first_fill(options: argparse.Namespace) -> Figures:
    """Compare sealing all days and refreshing the rest with creating the view and its index."""
    sealed: list[float] = []
    created: list[float] = []

    def create() -> None:
        execute(
            f"CREATE MATERIALIZED VIEW one_concurrently AS {ONE_VIEW}",
            "CREATE UNIQUE INDEX ON one_concurrently (subscription_id, day, usage_type)",
        )

    for number in range(min(options.rounds, 3)):
        execute(
            "TRUNCATE usage_daily_sealed, usage_period_total",
            "UPDATE usage_state"
            " SET sealed_before = NULL, fence = NULL, fence_day = NULL, open_digest = NULL",
            "REFRESH MATERIALIZED VIEW usage_daily_open WITH NO DATA",
            "DROP MATERIALIZED VIEW IF EXISTS one_concurrently",
        )
        steps = [(sealed, seal), (created, create)]
        for figures, step in steps if number % 2 else reversed(steps):
            figures.append(seconds(step))
    execute(f"CREATE MATERIALIZED VIEW one_plainly AS {ONE_VIEW}")
    execute("CREATE UNIQUE INDEX ON one_plainly (subscription_id, day, usage_type)")
    execute("VACUUM ANALYZE usage_daily_sealed, one_concurrently, one_plainly")
    days = one("SELECT count(DISTINCT day) FROM usage_daily_sealed")
    return {
        "first fill: ours, times as fast as one view": _ratio(created, sealed),
        "first fill: ours, s": _median(sealed),
        "first fill: one view, s": _median(created),
        "sealing: s a day": round(
            max(run.phases.get("seal", 0) for run in RefreshRun.objects.all()) / days, 3
        ),
        "temporary files of all steps, MB": one(
            "SELECT temp_bytes / 1048576 FROM pg_stat_database WHERE datname = current_database()"
        ),
    }


def _ticks(options: argparse.Namespace, first: date) -> Figures:
    """Measure refreshes without and with late records alternately: today's records keep growing."""
    approaches: dict[str, Callable[[], object]] = {
        "ours": refresh_or_fail,
        "one view, concurrently": lambda: execute(
            "REFRESH MATERIALIZED VIEW CONCURRENTLY one_concurrently"
        ),
        "one view, plainly": lambda: execute("REFRESH MATERIALIZED VIEW one_plainly"),
    }
    names = list(approaches)
    cases = {
        late: f"tick of {options.new:,} new records" + (f", {late:,} of them late" if late else "")
        for late in (0, options.new // 200)
    }
    times: dict[tuple[int, str], list[float]] = {
        (late, name): [] for late in cases for name in names
    }
    phases = {}
    for number in range(options.rounds):
        for late in cases:
            _new_records(options, first, late)
            for name in names[number % 3 :] + names[: number % 3]:
                times[late, name].append(seconds(approaches[name]))
            phases[late] = RefreshRun.objects.latest("pk").phases
    without, with_late = (times[late, "ours"] for late in cases)
    figures: Figures = {"tick with late records to one without: ours": _ratio(with_late, without)}
    for late, case in cases.items():
        for name in names[1:]:
            figures[f"{case}: ours, times as fast as {name}"] = _ratio(
                times[late, name], times[late, "ours"]
            )
        for name in names:
            figures[f"{case}: {name}, s"] = _median(times[late, name])
        figures[f"{case}: phases of ours"] = phases[late]
    return figures


def _new_records(options: argparse.Namespace, first: date, late: int = 0) -> None:
    add(day=first, records=options.new - late, subscriptions=options.subscriptions)
    if late:
        add(
            day=first - timedelta(2),
            records=late,
            subscriptions=options.subscriptions,
            days_back=options.days - 3,
        )


def _many_ticks(options: argparse.Namespace, first: date) -> Figures:
    """Measure many refreshes in a row: each rewrites rows of the open view, so its size must level
    off, and so must the time."""
    times, sizes = [], []
    size = "SELECT pg_total_relation_size('usage_daily_open') / 1024"
    for _ in range(options.ticks):
        add(day=first, records=2_000, subscriptions=options.subscriptions)
        times.append(seconds(refresh_or_fail))
        sizes.append(one(size))
    fifth = max(options.ticks // 5, 1)
    return {
        f"{options.ticks} ticks in a row: last fifth to first fifth, time": _ratio(
            times[-fifth:], times[:fifth]
        ),
        "their open view: last size to size after a fifth": round(sizes[-1] / sizes[fifth - 1], 2),
        "their open view: KB after a fifth, and last": [sizes[fifth - 1], sizes[-1]],
        "their time: s, first and last fifth": [_median(times[:fifth]), _median(times[-fifth:])],
    }


def _history(options: argparse.Namespace, first: date) -> Figures:
    """Measure refreshes of the same open days with more and more sealed days behind them."""
    a_day = min(options.records // options.days, 100_000)
    medians = {}
    for days in options.history:
        start_over()
        fill(today=first, days=days, records=a_day * days, subscriptions=options.subscriptions)
        seal()
        times = []
        for _ in range(options.rounds):
            add(day=first, records=10_000, subscriptions=options.subscriptions)
            times.append(seconds(refresh_or_fail))
        medians[days] = _median(times)
    return {
        f"history: slowest tick to fastest, at {options.history} days": round(
            max(medians.values()) / min(medians.values()), 2
        ),
        f"history: s a tick of 10,000 new records, {a_day:,} records a day": medians,
    }


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 3)


def _ratio(slow: list[float], fast: list[float]) -> float:
    return round(statistics.median(slow) / statistics.median(fast), 2)
