"""The questions of which reads measures what they take in the database."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django.db import connection

from benchmarks.asking import Asker
from benchmarks.read_data import Stock

OVER_LIMIT = "/api/v1/usage/over-limit/"
TOTALS = "/api/v1/usage/totals/"
Parameters = dict[str, Any]

# The fastest known: the prices of both types beside each other, a group a subscription.
SUM = """
    SELECT subscription_id, greatest(data_price, voice_price) AS largest_price
    FROM (
        SELECT
            subscription_id,
            sum(total_price) FILTER (WHERE usage_type = 'data') AS data_price,
            sum(total_price) FILTER (WHERE usage_type = 'voice') AS voice_price
        FROM usage_daily WHERE {condition} GROUP BY subscription_id
    ) AS added_up
    WHERE greatest(data_price, voice_price) >= %(price_limit)s
    ORDER BY largest_price DESC, subscription_id LIMIT 101
"""
ALL_DAYS = "TRUE"
SOME_DAYS = "day BETWEEN %(from_date)s AND %(to_date)s"
VOICE = f"{SOME_DAYS} AND usage_type = 'voice'"
SETS = 20


@dataclass(frozen=True)
class Sum:
    """The daily rows added up, as they answer a question about a limit."""

    condition: str
    parameters: Parameters

    @property
    def sql(self) -> str:
        return SUM.format(condition=self.condition)


@dataclass(frozen=True)
class Question:
    """Sets of parameters that ask the same of other subscriptions, and the target in words."""

    name: str
    target: str
    path: str
    asked: list[Parameters]
    sum: Sum | None = None


def questions(stock: Stock, asker: Asker) -> Iterator[Question]:
    """Those of the targets, each in the order in which it is reported."""
    whole: Parameters = {"from_date": stock.month, "to_date": stock.last_day}
    month: Parameters = {"month": f"{stock.month:%Y-%m}"}
    limits = _limits()
    for share, price in limits.items():
        limit: Parameters = {"price_limit": price}
        yield over_limit(f"all days, a limit {share} reached", limit, Sum(ALL_DAYS, limit))
    everybody: Parameters = {"price_limit": "0"}
    size = min(stock.subscriptions // 100, 1000)
    yield over_limit(
        f"all days, a page of 100 behind 10 of {size:,}",
        _page_behind(asker, 10, everybody | {"page_size": size}),
        Sum(ALL_DAYS, everybody),
    )
    rare: Parameters = {"price_limit": limits["one in a hundred"]}
    yield over_limit("a month", rare | month, Sum(SOME_DAYS, rare | whole))
    voice = rare | month | {"usage_type": "voice"}
    yield over_limit("a month, voice", voice, Sum(VOICE, rare | whole))
    for days in (10, 30):
        some = rare | whole | {"to_date": stock.month + timedelta(days - 1)}
        yield over_limit(f"{days} free days", some, Sum(SOME_DAYS, some), target="")
    yield Question("totals of one subscription, a month", "1", TOTALS, _named(stock, 1, month))
    yield Question("totals of 200 subscriptions, a month", "10", TOTALS, _named(stock, 200, month))


def over_limit(name: str, parameters: Parameters, added_up: Sum, *, target: str = "5") -> Question:
    return Question(f"over-limit, {name}", target, OVER_LIMIT, [parameters], added_up)


def refuse_another_answer(asker: Asker, question: Question) -> None:
    """What is compared must say the same: the first result of a first page."""
    if question.sum is None or "cursor" in question.asked[0]:
        return
    ours = None
    for result in asker.answer(question.path, question.asked[0])["results"][:1]:
        prices = [Decimal(exceeded["total_price"]) for exceeded in result["exceeded"]]
        ours = (result["subscription_id"], max(prices))
    with connection.cursor() as cursor:
        cursor.execute(question.sum.sql, question.sum.parameters)
        summed = cursor.fetchone()
    if ours != summed:
        raise RuntimeError(f"{question.name}: the API says {ours}, the sum is {summed}")


def _limits() -> dict[str, Any]:
    """A limit for each share of the totals of all days."""
    shares = {"half": 0.5, "one in a hundred": 0.99}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT percentile_disc(%s::double precision[]) WITHIN GROUP (ORDER BY price) FROM"
            " (SELECT sum(total_price) AS price FROM usage_daily"
            " GROUP BY subscription_id, usage_type) AS totals",
            [list(shares.values())],
        )
        (prices,) = cursor.fetchone()
    return {"everybody": Decimal(0)} | dict(zip(shares, prices, strict=True))


def _page_behind(asker: Asker, pages: int, parameters: Parameters) -> Parameters:
    """What asks for a page of 100 behind so many pages."""
    for _ in range(pages):
        following = asker.answer(OVER_LIMIT, parameters)["next"]
        parameters = dict(parse_qsl(urlsplit(following).query))
    return parameters | {"page_size": 100}


def _named(stock: Stock, count: int, month: Parameters) -> list[Parameters]:
    chance = random.Random(count)  # noqa: S311
    ids = range(1, stock.subscriptions + 1)
    return [
        month
        | {"page_size": 1000, "subscription_id": ",".join(map(str, chance.sample(ids, count)))}
        for _ in range(SETS)
    ]
