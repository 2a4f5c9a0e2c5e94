"""Time of the API's queries in the database, compared with a sum of the daily rows."""

import argparse
import statistics

from benchmarks.api_queries import ApiQuery, api_queries, refuse_different_results
from benchmarks.explaining_client import Cost, ExplainingClient, cost_of
from benchmarks.read_data import Stock

Figures = dict[str, object]


def measure_database_time(
    options: argparse.Namespace, stock: Stock, token: str
) -> tuple[Figures, Figures]:
    """Return ratios, and milliseconds with plans. The API and the sum run alternately."""
    client = ExplainingClient(token)
    ratios: Figures = {}
    details: Figures = {}
    for query in api_queries(stock, client):
        refuse_different_results(client, query)
        costs: list[Cost] = []
        sums: list[Cost] = []
        for _ in range(options.rounds):
            costs += [client.cost(query.path, each) for each in query.parameter_sets]
            if query.sum:
                sums.append(cost_of(query.sum.sql, query.sum.parameters))
        ratios |= _ratio(query, costs, sums)
        target = f" (at most {query.target})" if query.target else ""
        details[f"{query.name}: ms{target}"] = _median(costs)
        if sums:
            details[f"{query.name}: ms of the sum"] = _median(sums)
        if options.plans:
            details[f"{query.name}: plan"] = f"\n{costs[-1].plan}\n"
    return ratios, details


def _ratio(query: ApiQuery, costs: list[Cost], sums: list[Cost]) -> Figures:
    if not sums:
        return {}
    if query.target:
        name = f"{query.name}: times as fast as summing daily rows (at least 100)"
        return {name: round(_median(sums) / _median(costs), 1)}
    name = f"{query.name}: times as long as the bare sum (at most 1.2)"
    return {name: round(_median(costs) / _median(sums), 2)}


def _median(costs: list[Cost]) -> float:
    return round(statistics.median(cost.milliseconds for cost in costs), 3)
