"""Second sessions: connections of their own to the test database, beside Django's."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg2
from django.db import connection
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, so named

# The coordinator of a Citus cluster that bin/test was told to use.
CITUS = "CITUS_DATABASE_URL"
ON_CITUS = CITUS in os.environ


@contextmanager
def second_session(*, autocommit: bool = False, **overrides: Any) -> Iterator[Connection]:
    """A session of the server that is rolled back and closed at the end.

    Overrides replace parameters of the connection, for example user="somebody".
    """
    session = psycopg2.connect(**{**connection.get_connection_params(), **overrides})
    session.autocommit = autocommit
    try:
        yield session
    finally:
        # The server ends a closed session a moment later; its locks are gone when this returns.
        if not session.closed:
            session.rollback()
        session.close()


def ask(session: Connection, statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    """The rows a statement answers with; none for one that answers with nothing."""
    with session.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def run_sql(statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    """The rows a statement answers with in Django's own session."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def wait_until(condition: Callable[[], Any], *, seconds: float = 10, what: str) -> Any:
    """The first true answer of a condition; fails when none came in time, saying what for."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.02)
    return answer


def wait_for_lock(session: Connection, process_id: int) -> None:
    """Return once a backend waits for a lock, seen from another session."""

    def waits() -> bool:
        rows = ask(
            session,
            "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s",
            [process_id],
        )
        return bool(rows and rows[0][0])

    wait_until(waits, what=f"backend {process_id} to wait for a lock")


@contextmanager
def in_thread(work: Callable[[], Any]) -> Iterator[Future[Any]]:
    """Runs work in a thread with a Django connection of its own; waits for it at the end."""

    def run() -> Any:
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(max_workers=1) as pool:
        yield pool.submit(run)
