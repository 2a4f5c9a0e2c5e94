"""Sessions of the test database, beside Django's own connection."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg2
from django.db import connection
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, so named

# The variable with the URL of the coordinator of a Citus cluster, if bin/test has one.
CITUS = "CITUS_DATABASE_URL"
ON_CITUS = CITUS in os.environ


@contextmanager
def second_session(*, autocommit: bool = False, **overrides: Any) -> Iterator[Connection]:
    """Yield a session of the server; roll it back and close it at the end.

    Overrides replace parameters of the connection, for example user="somebody".
    """
    session = psycopg2.connect(**{**connection.get_connection_params(), **overrides})
    session.autocommit = autocommit
    try:
        yield session
    finally:
        # PostgreSQL ends a closed session a moment later. The rollback frees its locks at once.
        if not session.closed:
            session.rollback()
        session.close()


def ask(session: Connection, statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    """Run a statement and return its rows; none for a statement without a result."""
    with session.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def run_sql(statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    """Run a statement in Django's own session and return its rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def wait_until(condition: Callable[[], Any], *, seconds: float = 10, what: str) -> Any:
    """Return the first true result of the condition; fail after the time, and name `what`."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.02)
    return result


def wait_for_lock(session: Connection, process_id: int) -> None:
    """Return once this backend waits for a lock; another session looks."""

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
    """Run work in a thread with its own Django connection; wait for it at the end."""

    def run() -> Any:
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(max_workers=1) as pool:
        yield pool.submit(run)
