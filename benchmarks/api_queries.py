"""Queries of the API whose time in the database the benchmark `reads` measures."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django.db import connection

from benchmarks.explaining_client import ExplainingClient
from benchmarks.read_data import Stock

OVER_LIMIT = "/api/v1/usage/over-limit/"
TOTALS = "/api/v1/usage/totals/"
Parameters = dict[str, Any]

# The fastest known sum: one group a subscription, with a column for the price of each type.
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
    """The sum of daily rows that has the same results as a query about a limit."""

    condition: str
    parameters: Parameters

    @property
    def sql(self) -> str:
        return SUM.format(condition=self.condition)


@dataclass(frozen=True)
class ApiQuery:
    """A path with sets of parameters for different subscriptions, and the target in words."""

    name: str
    target: str
    path: str
    parameter_sets: list[Parameters]
    sum: Sum | None = None


def api_queries(stock: Stock, client: ExplainingClient) -> Iterator[ApiQuery]:
    """Yield the queries in the order of the report."""
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
        _page_behind(client, 10, everybody | {"page_size": size}),
        Sum(ALL_DAYS, everybody),
    )
    rare: Parameters = {"price_limit": limits["one in a hundred"]}
    yield over_limit("a month", rare | month, Sum(SOME_DAYS, rare | whole))
    voice = rare | month | {"usage_type": "voice"}
    yield over_limit("a month, voice", voice, Sum(VOICE, rare | whole))
    for days in (10, 30):
        some = rare | whole | {"to_date": stock.month + timedelta(days - 1)}
        yield over_limit(f"{days} free days", some, Sum(SOME_DAYS, some), target="")
    yield ApiQuery("totals of one subscription, a month", "1", TOTALS, _totals(stock, 1, month))
    yield ApiQuery("totals of 200 subscriptions, a month", "10", TOTALS, _totals(stock, 200, month))


def over_limit(name: str, parameters: Parameters, added_up: Sum, *, target: str = "5") -> ApiQuery:
    return ApiQuery(f"over-limit, {name}", target, OVER_LIMIT, [parameters], added_up)


def refuse_different_results(client: ExplainingClient, query: ApiQuery) -> None:
    """Raise RuntimeError if the first result of the API differs from that of the sum."""
    if query.sum is None or "cursor" in query.parameter_sets[0]:
        return
    first = None
    for result in client.get(query.path, query.parameter_sets[0])["results"][:1]:
        prices = [Decimal(exceeded["total_price"]) for exceeded in result["exceeded"]]
        first = (result["subscription_id"], max(prices))
    with connection.cursor() as cursor:
        cursor.execute(query.sum.sql, query.sum.parameters)
        summed = cursor.fetchone()
    if first != summed:
        raise RuntimeError(f"{query.name}: the API returns {first}, the sum {summed}")


def _limits() -> dict[str, Any]:
    """Return price limits by the share of subscriptions and types that reach them."""
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


def _page_behind(client: ExplainingClient, pages: int, parameters: Parameters) -> Parameters:
    """Return the parameters of a page of 100 results after this many pages."""
    for _ in range(pages):
        next_page = client.get(OVER_LIMIT, parameters)["next"]
        parameters = dict(parse_qsl(urlsplit(next_page).query))
    return parameters | {"page_size": 100}


def _totals(stock: Stock, count: int, month: Parameters) -> list[Parameters]:
    chance = random.Random(count)  # noqa: S311
    ids = range(1, stock.subscriptions + 1)
    return [
        month
        | {"page_size": 1000, "subscription_id": ",".join(map(str, chance.sample(ids, count)))}
        for _ in range(SETS)
    ]
