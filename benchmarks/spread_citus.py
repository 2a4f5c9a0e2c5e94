"""The same refreshes on one server and with raw records distributed over a Citus cluster.

CITUS_DATABASE_URL names an empty database of a coordinator with workers; the benchmark does not
empty it afterwards. DATABASE_URL must name the same server, so that the distribution is the only
difference between the two databases.
"""

import argparse
import os
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from django.core.management import call_command
from django.db import connection, transaction
from django.test import override_settings

from benchmarks.raw import add, execute, fill, one, seconds
from benchmarks.refresh_benchmark import refresh_or_fail, seal
from benchmarks.throwaway import django_at
from usage.models import LateKeysMode
from usage.services.capture.citus import distribute
from usage.services.raw.clock import today
from usage.services.raw.locks import begin_totals
from usage.services.totals.late_keys_switch import switch

Figures = dict[str, object]
Totals = dict[str, list[tuple[Any, ...]]]

CITUS = "CITUS_DATABASE_URL"
OPEN_DAYS = 5
SEALED_DAYS = 2
NEW_RECORDS = 10_000
COMPARED = ("usage_daily", "usage_daily_live", "usage_period_total")


@override_settings(
    USAGE_LATE_KEYS=LateKeysMode.WINDOW,
    USAGE_OPEN_DAYS=OPEN_DAYS,
    USAGE_RAW_RETENTION_DAYS=OPEN_DAYS,
)
def measure_citus(options: argparse.Namespace) -> Figures:
    """Return seconds of alternate refreshes, and plans. Raises RuntimeError if totals differ."""
    url = os.environ.get(CITUS)
    if not url:
        return {"refresh on Citus": f"skipped: set {CITUS} to an empty database of a coordinator"}
    places: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "one server": nullcontext,
        "Citus": partial(django_at, url),
    }
    switch()
    version = one("SHOW server_version_num")
    with places["Citus"]():
        _make_cluster(version)
    plans = {}
    for name, place in places.items():
        with place():
            _stock_up(options)
            plans[name] = _shape_of_refresh()
    times: dict[str, list[float]] = {name: [] for name in places}
    totals: dict[str, Totals] = {}
    for number in range(options.rounds):
        for name in list(places)[:: -1 if number % 2 else 1]:
            with places[name]():
                _seed(number)
                add(day=today(), records=NEW_RECORDS, subscriptions=options.subscriptions)
                times[name].append(seconds(refresh_or_fail))
                totals[name] = _totals()
        _refuse_other_totals(totals)
    figures: Figures = {
        f"refresh after {NEW_RECORDS:,} new records, {name}: s": round(
            statistics.median(measured), 3
        )
        for name, measured in times.items()
    }
    figures["equal after each: rows"] = {
        relation: len(rows) for relation, rows in totals["Citus"].items()
    }
    return figures | {f"plan of the open days, {name}": plan for name, plan in plans.items()}


def _make_cluster(version: int) -> None:
    if one("SHOW server_version_num") != version:
        raise RuntimeError(f"The versions differ: DATABASE_URL must name the server of {CITUS}.")
    if one("SELECT count(*) FROM pg_class WHERE relowner = current_user::regrole"):
        raise RuntimeError(f"The database of {CITUS} has tables: name an empty one.")
    call_command("migrate", verbosity=0)
    distribute()


def _seed(number: int) -> None:
    """Set the seed of random(), which runs on the coordinator, so that both databases are equal."""
    execute(f"SELECT setseed(1.0 / ({number} + 2))")


def _stock_up(options: argparse.Namespace) -> None:
    days = OPEN_DAYS + SEALED_DAYS
    _seed(options.rounds)
    fill(
        today=today(),
        days=days,
        records=days * options.open,
        subscriptions=options.subscriptions,
    )
    seal()


def _totals() -> Totals:
    rows = {}
    with connection.cursor() as cursor:
        for relation in COMPARED:
            cursor.execute(f"SELECT * FROM {relation} ORDER BY 1, 2, 3")
            rows[relation] = cursor.fetchall()
    return rows


def _refuse_other_totals(totals: dict[str, Totals]) -> None:
    one_server, citus = totals["one server"], totals["Citus"]
    for relation in COMPARED:
        differing = set(one_server[relation]) ^ set(citus[relation])
        if differing:
            raise RuntimeError(
                f"{relation}: {len(differing)} rows differ, among them {min(differing)!r}"
            )


def _shape_of_refresh() -> str:
    """Return the nodes of the plan of the open view, with the number of each."""
    with transaction.atomic(), connection.cursor() as cursor:
        begin_totals()
        cursor.execute("SELECT pg_get_viewdef('usage_daily_open'::regclass)")
        cursor.execute(f"EXPLAIN (FORMAT JSON) {cursor.fetchone()[0]}")
        (plan,) = cursor.fetchone()
    return ", ".join(f"{count} x {node}" for node, count in Counter(_nodes(plan)).items())


def _nodes(plan: Any) -> Iterator[str]:
    if isinstance(plan, dict):
        if query := plan.get("Distributed Query"):
            tasks = query["Job"]["Task Count"]
            yield f"{plan['Node Type']} ({plan['Custom Plan Provider']}; tasks: {tasks})"
        elif node := plan.get("Node Type"):
            yield node
    for part in plan.values() if isinstance(plan, dict) else plan:
        if isinstance(part, dict | list):
            yield from _nodes(part)
