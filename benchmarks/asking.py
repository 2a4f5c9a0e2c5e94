"""Questions put to the API in this process, to see what its statements take in the database."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.test import Client

EXPLAIN = "EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF, BUFFERS OFF)"


@dataclass(frozen=True)
class Cost:
    """Milliseconds of planning and execution of all statements, and the longest one's plan."""

    milliseconds: float
    plan: str


class Asker:
    """Asks as a client with a token would, and has each query of the API explained on its way.

    A statement is explained where it runs, in its transaction and with its settings, so nothing
    here repeats the SQL of the API.
    """

    def __init__(self, token: str) -> None:
        self.client = Client(headers={"Authorization": f"Token {token}"}, SERVER_NAME="127.0.0.1")

    def answer(self, path: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """The JSON of the answer. Raises RuntimeError when it is an error."""
        response = self.client.get(path, parameters, secure=True)
        if response.status_code != 200:
            raise RuntimeError(f"{path}: {response.status_code} {response.content!r}")
        answer: dict[str, Any] = response.json()
        return answer

    def cost(self, path: str, parameters: dict[str, Any]) -> Cost:
        """What the statements of one answer take in the database, all of them together."""
        plans: list[str] = []

        def explain(execute: Callable, sql: str, params: Any, many: bool, context: dict) -> Any:
            if sql.lstrip().upper().startswith(("SELECT", "WITH", "EXECUTE")):
                execute(f"{EXPLAIN} {sql}", params, many, context)
                plans.append("\n".join(line for (line,) in context["cursor"].fetchall()))
            return execute(sql, params, many, context)

        with connection.execute_wrapper(explain):
            self.answer(path, parameters)
        return _total(plans)


def cost_of(sql: str, parameters: dict[str, Any]) -> Cost:
    """What a statement takes in the database."""
    with connection.cursor() as cursor:
        cursor.execute(f"{EXPLAIN} {sql}", parameters)
        return _total(["\n".join(line for (line,) in cursor.fetchall())])


def _total(plans: list[str]) -> Cost:
    if not plans:
        raise RuntimeError("No statement was seen: does the API ask past Django's connection?")
    times = [
        sum(map(float, re.findall(r"(?:Planning|Execution) Time: ([0-9.]+) ms", plan)))
        for plan in plans
    ]
    return Cost(sum(times), plans[times.index(max(times))])
