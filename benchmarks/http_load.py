"""Latency and rate of the API under load, compared with simpler views and with raw records."""

import argparse
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from django.db import connection

from benchmarks.raw import add
from benchmarks.read_data import Stock
from benchmarks.refresh_benchmark import refresh_or_fail
from benchmarks.serving import Server, serve, wait_until_idle
from benchmarks.wrk import LoadResult, load

Figures = dict[str, object]

SUBSCRIPTIONS = 500
CONNECTIONS = 32
# For queries of raw records: one takes seconds, too long for a load of a few seconds.
SLOW_CONNECTIONS = 2
SLOW_REQUESTS = 6
OVER_LIMIT = "/api/v1/usage/over-limit/?price_limit=100"
REFRESH_SECONDS = 3
NEW_RECORDS = 1_000


def measure_http(options: argparse.Namespace, stock: Stock, token: str) -> tuple[Figures, Figures]:
    """Return ratios and their figures. The servers share a machine and get load alternately."""
    month = f"{stock.month:%Y-%m}"
    sample = random.Random(1).sample(  # noqa: S311
        range(1, stock.subscriptions + 1), min(SUBSCRIPTIONS, stock.subscriptions)
    )
    totals = [f"/api/v1/usage/totals/?subscription_id={pk}&month={month}" for pk in sample]
    daily = f"/api/v1/usage/daily/?month={month}&page_size=1000"
    with (
        serve("config.settings", {"Authorization": f"Token {token}"}, first=totals[0]) as api,
        serve("benchmarks.bare_settings", first=totals[0]) as bare,
    ):
        _refuse_different_bytes(api, bare, totals[:20])
        not_modified = _not_modified(api, daily)

        send = partial(load, seconds=options.seconds, connections=CONNECTIONS)
        full = alternate(
            options.rounds,
            {
                "totals of one subscription: API": lambda: send(api, totals),
                "totals of one subscription: bare view": lambda: send(bare, totals),
                "over-limit of all days: API": lambda: send(api, [OVER_LIMIT]),
                "over-limit of all days: ORM over raw records": lambda: send_few(bare, OVER_LIMIT),
                "a page of 1,000: 304": lambda: send(api, [daily], headers=not_modified),
                "a page of 1,000: 200": lambda: send(api, [daily]),
            },
        )
        rates = {name: median(runs, "a_second") for name, runs in full.items()}
        half = rates["totals of one subscription: API"] / 2

        def send_during_refreshes() -> LoadResult:
            with refreshes(stock):
                return send(api, totals, a_second=half)

        halves = alternate(
            options.rounds,
            {
                "half of the highest load": lambda: send(api, totals, a_second=half),
                f"half, a refresh every {REFRESH_SECONDS} s": send_during_refreshes,
                "half, bare view": lambda: send(bare, totals, a_second=half),
            },
        )
    return _ratios(rates, halves), _details(full | halves)


def send_few(server: Server, path: str) -> LoadResult:
    """Send a few slow requests, some at once. Raises RuntimeError if a response is an error."""
    took: list[float] = []

    def get(_number: int) -> None:
        began = time.monotonic()
        response = server.get(path)
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status} {response.body!r}")
        took.append(1000 * (time.monotonic() - began))

    began = time.monotonic()
    with ThreadPoolExecutor(SLOW_CONNECTIONS) as pool:
        list(pool.map(get, range(SLOW_REQUESTS)))
    a_second = SLOW_REQUESTS / (time.monotonic() - began)
    return LoadResult(a_second, statistics.median(took), max(took), broken=0)


def alternate(
    rounds: int, measures: dict[str, Callable[[], LoadResult]]
) -> dict[str, list[LoadResult]]:
    """Run all measures in each round, every second round in reverse order; return their results."""
    runs: dict[str, list[LoadResult]] = {name: [] for name in measures}
    for number in range(rounds):
        for name in list(measures)[:: -1 if number % 2 else 1]:
            wait_until_idle()
            runs[name].append(measures[name]())
    return runs


def _ratios(rates: dict[str, float], halves: dict[str, list[LoadResult]]) -> Figures:
    one, bare, over_limit, raw, unchanged, page = rates.values()
    quiet, refreshing, _ = halves.values()
    p50, p99 = median(quiet, "p50"), median(quiet, "p99")
    return {
        "totals of one subscription: responses a second, to a bare view's (at least 0.6)": round(
            one / bare, 2
        ),
        "over-limit of all days: times the responses of the ORM over raw records (at least 50)": (
            round(over_limit / raw, 1)
        ),
        "304s: times as many a second as 200s of 1,000 rows (at least 3)": round(
            unchanged / page, 1
        ),
        "half of the highest load: p99, times p50 (at most 3)": round(p99 / p50, 2),
        "a refresh in the background: times p99 (at most 2)": round(
            median(refreshing, "p99") / p99, 2
        ),
    }


def _details(runs: dict[str, list[LoadResult]]) -> Figures:
    return {
        f"{name}: responses a second, ms p50 and p99, broken connections": (
            f"{median(measured, 'a_second'):,.1f}, {median(measured, 'p50'):.1f} and"
            f" {median(measured, 'p99'):.1f}, {sum(run.broken for run in measured)}"
        )
        for name, measured in runs.items()
    }


def median(runs: list[LoadResult], figure: str) -> float:
    """Return the median of one figure of several runs."""
    return statistics.median(getattr(run, figure) for run in runs)


def _refuse_different_bytes(api: Server, bare: Server, paths: Sequence[str]) -> None:
    """Raise RuntimeError if the API and the bare view respond with different bytes."""
    for path in paths:
        body, bare_body = api.get(path).body, bare.get(path).body
        if body != bare_body:
            raise RuntimeError(f"{path}: the API returns {body!r}, the bare view {bare_body!r}")


def _not_modified(api: Server, path: str) -> dict[str, str]:
    """Return the request headers for which the server responds 304."""
    headers = {"If-None-Match": api.get(path).headers["ETag"]}
    status = api.get(path, headers).status
    if status != 304:
        raise RuntimeError(f"{path}: {status} instead of 304 for {headers}")
    return headers


@contextmanager
def refreshes(stock: Stock) -> Iterator[None]:
    """Add records and refresh in another thread, repeatedly until the block ends."""
    done = threading.Event()
    failures: list[Exception] = []

    def repeat() -> None:
        try:
            while not done.is_set():
                began = time.monotonic()
                add(day=stock.today, records=NEW_RECORDS, subscriptions=stock.subscriptions)
                refresh_or_fail()
                done.wait(max(0, REFRESH_SECONDS - (time.monotonic() - began)))
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if failures:
        raise failures[0]
