"""Every row of an answer, read from one snapshot in constant memory."""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from usage.errors import ExportError
from usage.services import servers

Batch = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Limits:
    """The most that reading may take, in seconds: each statement, what the reader does between two
    of them, and everything."""

    statement: int
    idle: int
    whole: int


def read_batches(
    statement: str, parameters: Sequence[Any], *, size: int, limits: Limits | None = None
) -> Generator[Batch]:
    """The rows of a query, at most `size` at a time, from one snapshot of its own transaction.

    The snapshot is taken when the first batch is asked for, on the server that is current then.
    Close the iterator to end early.
    Raises ExportError when the whole takes too long; the database ends it when a statement or the
    reader does.
    """
    began = time.monotonic()
    server = servers.current()
    connection = connections[server]
    with transaction.atomic(using=server):
        _prepare(connection, limits)
        with connection.chunked_cursor() as cursor:
            cursor.execute(statement, parameters)
            while batch := cursor.fetchmany(size):
                yield batch
                if limits is not None and time.monotonic() - began > limits.whole:
                    raise ExportError(
                        f"Not every row was read within {limits.whole} seconds. Read faster, or "
                        "narrow the question."
                    )


def _prepare(connection: BaseDatabaseWrapper, limits: Limits | None) -> None:
    # Every row is wanted: the plan that gives the first ones soonest is not the best.
    settings = {"cursor_tuple_fraction": "1"}
    if limits is not None:
        settings["statement_timeout"] = f"{limits.statement}s"
        settings["idle_in_transaction_session_timeout"] = f"{limits.idle}s"
    with connection.cursor() as cursor:
        for setting, value in settings.items():
            cursor.execute(f"SET LOCAL {setting} = '{value}'")
