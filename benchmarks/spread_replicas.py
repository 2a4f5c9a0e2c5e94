"""The same queries to a primary alone, and to a primary with one and two replicas."""

import argparse
import random
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from django.conf import settings
from django.core.management import call_command

from benchmarks.http_load import CONNECTIONS, alternate, median
from benchmarks.read_data import Stock, stock_up
from benchmarks.serving import Server, make_token, serve
from benchmarks.throwaway import django_at
from benchmarks.wrk import load
from bin import place
from bin.embedded import PostgreSQL
from bin.replica import Replica

Paths = Mapping[str, Sequence[str]]

MOST_REPLICAS = 2
SUBSCRIPTIONS = 500
COMPARED = 20


def measure_replicas(options: argparse.Namespace) -> dict[str, object]:
    """Return responses a second of each query. Raises RuntimeError if two servers differ."""
    settings.USAGE_OPEN_DAYS = 2
    with ExitStack() as stack:
        account = place.server_account()
        here = place.passing_place(account)
        stack.callback(shutil.rmtree, here)
        primary = PostgreSQL(place.give(here / "0", account), here / "0.log")
        stack.callback(primary.stop)
        primary.start()
        stack.enter_context(django_at(primary.url()))
        call_command("migrate", verbosity=0)
        stock = stock_up(
            subscriptions=options.subscriptions,
            raw_records=options.subscriptions,
            open_records=options.open,
        )
        headers = {"Authorization": f"Token {make_token()}"}
        replicas = []
        for name in map(str, range(1, MOST_REPLICAS + 1)):
            replica = Replica(place.give(here / name, account), here / f"{name}.log", primary)
            stack.callback(replica.stop)
            replica.start()
            replicas.append(replica.url())
        queries = _paths(stock)
        first = next(iter(queries.values()))[0]
        webs = {
            count: stack.enter_context(
                serve(
                    "config.settings",
                    headers,
                    first=first,
                    **primary.variables() | {"DATABASE_REPLICA_URL": ",".join(replicas[:count])},
                )
            )
            for count in range(MOST_REPLICAS + 1)
        }
        _refuse_different_responses(list(webs.values()), queries)
        measured = alternate(
            options.rounds,
            {
                f"{query}, {count} replicas": partial(
                    load, web, paths, seconds=options.seconds, connections=CONNECTIONS
                )
                for query, paths in queries.items()
                for count, web in webs.items()
            },
        )
    return {
        f"{name}: responses a second, ms p50 and p99": (
            f"{median(runs, 'a_second'):,.0f}, {median(runs, 'p50'):.1f} and"
            f" {median(runs, 'p99'):.1f}"
        )
        for name, runs in measured.items()
    }


def _paths(stock: Stock) -> Paths:
    """Return the paths of each query, by its name."""
    month = f"{stock.month:%Y-%m}"
    sample = random.Random(1).sample(  # noqa: S311
        range(1, stock.subscriptions + 1), min(SUBSCRIPTIONS, stock.subscriptions)
    )
    api = "/api/v1/usage"
    return {
        "totals of one subscription": [
            f"{api}/totals/?subscription_id={number}&month={month}" for number in sample
        ],
        "over a limit in 10 free days": [
            f"{api}/over-limit/?price_limit={limit}&from_date={month}-02&to_date={month}-11"
            for limit in range(10, 20)
        ],
    }


def _refuse_different_responses(webs: Sequence[Server], queries: Paths) -> None:
    for path in [path for paths in queries.values() for path in paths[:COMPARED]]:
        bodies = []
        for web in webs:
            response = web.get(path)
            if response.status != 200:
                raise RuntimeError(f"{path}: {response.status} {response.body!r}")
            # Each web server has its own address and key, and `next` depends on both.
            bodies.append(response.json() | {"next": None})
        if any(body != bodies[0] for body in bodies):
            raise RuntimeError(f"{path}: the servers respond differently: {bodies!r}")
