"""The export of all rows of a query, read from one snapshot in constant memory."""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from usage.database import routing
from usage.errors import ExportError

Batch = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Limits:
    """Time limits of an export in seconds: for each statement, for the pause of the reader between
    two statements, and for the whole export."""

    statement: int
    idle: int
    whole: int


def read_batches(
    statement: str, parameters: Sequence[Any], *, size: int, limits: Limits | None = None
) -> Generator[Batch]:
    """Yield the rows of a query, at most `size` at a time, from one snapshot.

    Reading the first batch begins the transaction, on the current server of that moment. Close the
    iterator to end early.
    Raises ExportError if the whole export takes too long. If a statement or the reader takes too
    long, the database ends the transaction.
    """
    began = time.monotonic()
    server = routing.current()
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
                        "request fewer rows."
                    )


def _prepare(connection: BaseDatabaseWrapper, limits: Limits | None) -> None:
    # All rows are read, so a plan that returns the first rows early is no advantage.
    settings = {"cursor_tuple_fraction": "1"}
    if limits is not None:
        settings["statement_timeout"] = f"{limits.statement}s"
        settings["idle_in_transaction_session_timeout"] = f"{limits.idle}s"
    with connection.cursor() as cursor:
        for setting, value in settings.items():
            cursor.execute(f"SET LOCAL {setting} = '{value}'")
