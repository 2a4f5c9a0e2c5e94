"""What the questions of the API take in the database, beside summing the daily rows."""

import argparse
import statistics

from benchmarks.asking import Asker, Cost, cost_of
from benchmarks.questions import Question, questions, refuse_another_answer
from benchmarks.read_data import Stock

Figures = dict[str, object]


def measure_database_time(
    options: argparse.Namespace, stock: Stock, token: str
) -> tuple[Figures, Figures]:
    """Ratios, and milliseconds with plans; the API and the sum of the daily rows by turns."""
    asker = Asker(token)
    ratios: Figures = {}
    details: Figures = {}
    for question in questions(stock, asker):
        refuse_another_answer(asker, question)
        costs: list[Cost] = []
        sums: list[Cost] = []
        for _ in range(options.rounds):
            costs += [asker.cost(question.path, asked) for asked in question.asked]
            if question.sum:
                sums.append(cost_of(question.sum.sql, question.sum.parameters))
        ratios |= _ratio(question, costs, sums)
        target = f" (at most {question.target})" if question.target else ""
        details[f"{question.name}: ms{target}"] = _median(costs)
        if sums:
            details[f"{question.name}: ms of the sum"] = _median(sums)
        if options.plans:
            details[f"{question.name}: plan"] = f"\n{costs[-1].plan}\n"
    return ratios, details


def _ratio(question: Question, costs: list[Cost], sums: list[Cost]) -> Figures:
    if not sums:
        return {}
    if question.target:
        name = f"{question.name}: times as fast as summing daily rows (at least 100)"
        return {name: round(_median(sums) / _median(costs), 1)}
    name = f"{question.name}: times as long as the bare sum (at most 1.2)"
    return {name: round(_median(costs) / _median(sums), 2)}


def _median(costs: list[Cost]) -> float:
    return round(statistics.median(cost.milliseconds for cost in costs), 3)
