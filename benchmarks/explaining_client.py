"""A client of the API in this process that measures the statements of a request in PostgreSQL."""

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


class ExplainingClient:
    """A client with a token that runs EXPLAIN for each statement of a request.

    EXPLAIN runs just before the statement, in its transaction and with its settings, so no SQL of
    the API is repeated here.
    """

    def __init__(self, token: str) -> None:
        self.client = Client(headers={"Authorization": f"Token {token}"}, SERVER_NAME="127.0.0.1")

    def get(self, path: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the JSON of the response. Raises RuntimeError if it is an error."""
        response = self.client.get(path, parameters, secure=True)
        if response.status_code != 200:
            raise RuntimeError(f"{path}: {response.status_code} {response.content!r}")
        body: dict[str, Any] = response.json()
        return body

    def cost(self, path: str, parameters: dict[str, Any]) -> Cost:
        """Return the total cost of all statements of one request."""
        plans: list[str] = []

        def explain(execute: Callable, sql: str, params: Any, many: bool, context: dict) -> Any:
            if sql.lstrip().upper().startswith(("SELECT", "WITH", "EXECUTE")):
                execute(f"{EXPLAIN} {sql}", params, many, context)
                plans.append("\n".join(line for (line,) in context["cursor"].fetchall()))
            return execute(sql, params, many, context)

        with connection.execute_wrapper(explain):
            self.get(path, parameters)
        return _total(plans)


def cost_of(sql: str, parameters: dict[str, Any]) -> Cost:
    """Return the cost of a statement."""
    with connection.cursor() as cursor:
        cursor.execute(f"{EXPLAIN} {sql}", parameters)
        return _total(["\n".join(line for (line,) in cursor.fetchall())])


def _total(plans: list[str]) -> Cost:
    if not plans:
        raise RuntimeError("No statement was measured: the API must use Django's connection.")
    times = [
        sum(map(float, re.findall(r"(?:Planning|Execution) Time: ([0-9.]+) ms", plan)))
        for plan in plans
    ]
    return Cost(sum(times), plans[times.index(max(times))])
