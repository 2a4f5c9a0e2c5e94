"""Helpers that find the session of a refresh, kill processes, and check that refreshes resume."""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, so named

from tests.connections import ask, wait_until
from tests.exact import plain_totals, totals_of

HOLDER = """
    SELECT pid, application_name
    FROM pg_locks
    INNER JOIN pg_stat_activity USING (pid)
    WHERE
        relation = 'usage_refresh_lock'::regclass
        AND mode = 'ShareUpdateExclusiveLock'
        AND granted
        -- A session that makes or drops partitions or closes days has the same lock.
        AND pid NOT IN (
            SELECT pid
            FROM pg_locks
            WHERE
                mode = 'AccessExclusiveLock'
                AND relation IN (
                    'usage_datausagerecord'::regclass,
                    'usage_datausagerecord_default'::regclass,
                    'usage_voiceusagerecord'::regclass,
                    'usage_voiceusagerecord_default'::regclass
                )
        )
"""


@dataclass(frozen=True)
class Holder:
    """The session that holds the refresh lock; `name` is PGAPPNAME of its process."""

    pid: int
    name: str


def holder(session: Connection, *, after: float = 0.0) -> Holder | None:
    """Return the session that holds the lock now and still does after `after` seconds, or None."""
    found = [Holder(*row) for row in ask(session, HOLDER)]
    if not found or not after:
        return found[0] if found else None
    time.sleep(after)
    return found[0] if found[0] in [Holder(*row) for row in ask(session, HOLDER)] else None


def family(pid: int) -> list[int]:
    """Return a process and all its descendants, itself first."""
    with contextlib.suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = [int(each) for task in tasks for each in (task / "children").read_text().split()]
        return [pid, *(member for child in children for member in family(child))]
    return [pid]


def send(number: signal.Signals, pids: list[int]) -> None:
    """Send a signal to processes, in this order; skip those that have ended."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def wait_for_refresh(session: Connection, *, seconds: float = 60) -> None:
    """Return once the totals are from a refresh that began after this call."""
    began = time.time()

    def is_newer() -> bool:
        ((as_of,),) = ask(session, "SELECT as_of FROM usage_state")
        return as_of is not None and as_of.timestamp() > began

    wait_until(is_newer, seconds=seconds, what="the next refresh")


def assert_becomes_exact(session: Connection) -> None:
    """Assert that, without writers, totals of kept days equal a GROUP BY within a minute."""
    query = partial(ask, session)
    ((kept_from,),) = ask(session, "SELECT raw_kept_from FROM usage_state")
    since = kept_from or date.min
    expected = [row for row in plain_totals(query) if row[1] >= since]

    def published() -> list[tuple[object, ...]]:
        return [row for row in totals_of("usage_daily", query) if row[1] >= since]

    wait_until(lambda: published() == expected, seconds=60, what="exact totals")
