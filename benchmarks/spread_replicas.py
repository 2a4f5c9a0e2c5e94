"""The same questions, answered by a primary alone and by it with one and two replicas."""

import argparse
import random
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from django.conf import settings
from django.core.management import call_command

from benchmarks.http_load import CONNECTIONS, by_turns, median
from benchmarks.read_data import Stock, stock_up
from benchmarks.serving import Server, make_token, serve
from benchmarks.throwaway import django_at
from benchmarks.wrk import load
from bin import place
from bin.embedded import PostgreSQL
from bin.replica import Replica

Questions = Mapping[str, Sequence[str]]

MOST_REPLICAS = 2
ASKED = 500
COMPARED = 20


def measure_replicas(options: argparse.Namespace) -> dict[str, object]:
    """Answers a second of each question. Raises RuntimeError when two answers to one differ."""
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
        questions = _questions(stock)
        first = next(iter(questions.values()))[0]
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
        _refuse_other_answers(list(webs.values()), questions)
        measured = by_turns(
            options.rounds,
            {
                f"{question}, {count} replicas": partial(
                    load, web, paths, seconds=options.seconds, connections=CONNECTIONS
                )
                for question, paths in questions.items()
                for count, web in webs.items()
            },
        )
    return {
        f"{name}: answers a second, ms p50 and p99": (
            f"{median(runs, 'a_second'):,.0f}, {median(runs, 'p50'):.1f} and"
            f" {median(runs, 'p99'):.1f}"
        )
        for name, runs in measured.items()
    }


def _questions(stock: Stock) -> Questions:
    month = f"{stock.month:%Y-%m}"
    asked = random.Random(1).sample(  # noqa: S311
        range(1, stock.subscriptions + 1), min(ASKED, stock.subscriptions)
    )
    api = "/api/v1/usage"
    return {
        "totals of one subscription": [
            f"{api}/totals/?subscription_id={number}&month={month}" for number in asked
        ],
        "who reached a limit in 10 free days": [
            f"{api}/over-limit/?price_limit={limit}&from_date={month}-02&to_date={month}-11"
            for limit in range(10, 20)
        ],
    }


def _refuse_other_answers(webs: Sequence[Server], questions: Questions) -> None:
    for path in [path for paths in questions.values() for path in paths[:COMPARED]]:
        # The address of the next page names the web server, each of which has a key of its own.
        answers = []
        for web in webs:
            answer = web.get(path)
            if answer.status != 200:
                raise RuntimeError(f"{path}: {answer.status} {answer.body!r}")
            answers.append(answer.json() | {"next": None})
        if any(answer != answers[0] for answer in answers):
            raise RuntimeError(f"{path}: answered in different ways: {answers!r}")
