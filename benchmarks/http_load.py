"""What clients of the API see under load, beside views that do less or ask the raw records."""

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
from benchmarks.refresh import ours as refresh
from benchmarks.serving import Server, serve, wait_until_idle
from benchmarks.wrk import Measured, load

Figures = dict[str, object]

SUBSCRIPTIONS_ASKED = 500
CONNECTIONS = 32
# Asked of the raw records: each takes so long that a load of seconds would not count it fairly.
SLOW_CONNECTIONS = 2
SLOW_REQUESTS = 6
OVER_LIMIT = "/api/v1/usage/over-limit/?price_limit=100"
REFRESH_SECONDS = 3
NEW_RECORDS = 1_000


def measure_http(options: argparse.Namespace, stock: Stock, token: str) -> tuple[Figures, Figures]:
    """Ratios, and what they come from; what is compared is loaded by turns, on one machine."""
    month = f"{stock.month:%Y-%m}"
    asked = random.Random(1).sample(  # noqa: S311
        range(1, stock.subscriptions + 1), min(SUBSCRIPTIONS_ASKED, stock.subscriptions)
    )
    totals = [f"/api/v1/usage/totals/?subscription_id={pk}&month={month}" for pk in asked]
    daily = f"/api/v1/usage/daily/?month={month}&page_size=1000"
    with (
        serve("config.settings", {"Authorization": f"Token {token}"}, first=totals[0]) as api,
        serve("benchmarks.bare_settings", first=totals[0]) as bare,
    ):
        _refuse_other_bytes(api, bare, totals[:20])
        not_modified = _not_modified(api, daily)

        ask = partial(load, seconds=options.seconds, connections=CONNECTIONS)
        full = by_turns(
            options.rounds,
            {
                "totals of one subscription: API": lambda: ask(api, totals),
                "totals of one subscription: bare view": lambda: ask(bare, totals),
                "over-limit of all days: API": lambda: ask(api, [OVER_LIMIT]),
                "over-limit of all days: ORM over raw records": lambda: ask_slowly(
                    bare, OVER_LIMIT
                ),
                "a page of 1,000: 304": lambda: ask(api, [daily], headers=not_modified),
                "a page of 1,000: 200": lambda: ask(api, [daily]),
            },
        )
        rates = {name: median(runs, "a_second") for name, runs in full.items()}
        half = rates["totals of one subscription: API"] / 2

        def ask_while_refreshing() -> Measured:
            with refreshes(stock):
                return ask(api, totals, a_second=half)

        halves = by_turns(
            options.rounds,
            {
                "half of the highest load": lambda: ask(api, totals, a_second=half),
                f"half, a refresh every {REFRESH_SECONDS} s": ask_while_refreshing,
                "half, bare view": lambda: ask(bare, totals, a_second=half),
            },
        )
    return _ratios(rates, halves), _details(full | halves)


def ask_slowly(server: Server, path: str) -> Measured:
    """A few whole requests, some at once. Raises RuntimeError when one is answered an error."""
    took: list[float] = []

    def get(_number: int) -> None:
        began = time.monotonic()
        answer = server.get(path)
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {answer.body!r}")
        took.append(1000 * (time.monotonic() - began))

    began = time.monotonic()
    with ThreadPoolExecutor(SLOW_CONNECTIONS) as pool:
        list(pool.map(get, range(SLOW_REQUESTS)))
    a_second = SLOW_REQUESTS / (time.monotonic() - began)
    return Measured(a_second, statistics.median(took), max(took), broken=0)


def by_turns(rounds: int, measures: dict[str, Callable[[], Measured]]) -> dict[str, list[Measured]]:
    """What each measure gives in so many rounds, every other one in the opposite order."""
    runs: dict[str, list[Measured]] = {name: [] for name in measures}
    for number in range(rounds):
        for name in list(measures)[:: -1 if number % 2 else 1]:
            wait_until_idle()
            runs[name].append(measures[name]())
    return runs


def _ratios(rates: dict[str, float], halves: dict[str, list[Measured]]) -> Figures:
    one, bare, over_limit, raw, unchanged, page = rates.values()
    quiet, refreshing, _ = halves.values()
    p50, p99 = median(quiet, "p50"), median(quiet, "p99")
    return {
        "totals of one subscription: of a bare view's answers a second (at least 0.6)": round(
            one / bare, 2
        ),
        "over-limit of all days: times the answers of the ORM over raw records (at least 50)": (
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


def _details(runs: dict[str, list[Measured]]) -> Figures:
    return {
        f"{name}: answers a second, ms p50 and p99, broken connections": (
            f"{median(measured, 'a_second'):,.1f}, {median(measured, 'p50'):.1f} and"
            f" {median(measured, 'p99'):.1f}, {sum(run.broken for run in measured)}"
        )
        for name, measured in runs.items()
    }


def median(runs: list[Measured], figure: str) -> float:
    """The median of one figure of several runs."""
    return statistics.median(getattr(run, figure) for run in runs)


def _refuse_other_bytes(api: Server, bare: Server, paths: Sequence[str]) -> None:
    """What is compared must answer the same."""
    for path in paths:
        ours, theirs = api.get(path).body, bare.get(path).body
        if ours != theirs:
            raise RuntimeError(f"{path}: the API answers {ours!r}, the bare view {theirs!r}")


def _not_modified(api: Server, path: str) -> dict[str, str]:
    """The headers with which the path is answered by a 304."""
    headers = {"If-None-Match": api.get(path).headers["ETag"]}
    status = api.get(path, headers).status
    if status != 304:
        raise RuntimeError(f"{path}: {status} instead of 304 for {headers}")
    return headers


@contextmanager
def refreshes(stock: Stock) -> Iterator[None]:
    """New records and a refresh, again and again beside the block."""
    done = threading.Event()
    failures: list[Exception] = []

    def go_on() -> None:
        try:
            while not done.is_set():
                began = time.monotonic()
                add(day=stock.today, records=NEW_RECORDS, subscriptions=stock.subscriptions)
                refresh()
                done.wait(max(0, REFRESH_SECONDS - (time.monotonic() - began)))
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if failures:
        raise failures[0]
