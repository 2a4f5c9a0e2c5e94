"""Which server answers: the primary, or one of the streaming replicas where there are any.

Whatever writes goes to the primary, and so does what must be so now. Reads that may be as old as
they say go to a replica; one that is away is left out for a while.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum
from functools import partial
from threading import Lock
from typing import Any, TypeVar

from django.db import DatabaseError, InterfaceError, connections

from usage.services import identity
from usage.services.identity import Identity
from usage.services.locks import (
    DEADLOCK,
    NOT_POPULATED,
    QUERY_CANCELED,
    SERIALIZATION_FAILURE,
    is_of_server,
    sqlstate,
)
from usage.services.membership import StrangerError, refuse_stranger
from usage.services.silence import SilentServerError

PRIMARY = "default"

# Then one request tries whether it is back; others go on without it.
LEFT_OUT_SECONDS = 10.0

# Connections that break, too many of them, and a server that shuts down or starts. A disk that is
# full of temporary files is what one question did, and it would do so elsewhere.
AWAY = ("08", "53300", "57")
# A read of a replica that held replay up for too long.
REPLAY_CONFLICTS = {SERIALIZATION_FAILURE, DEADLOCK}
# Of what a migration or a first refresh made, when replay has not come to it yet.
UNKNOWN_YET = {NOT_POPULATED, "42P01", "42703", "42883"}

logger = logging.getLogger(__name__)

T = TypeVar("T")

_current: ContextVar[str] = ContextVar("server", default=PRIMARY)
_left_out: dict[str, float] = {}
_left_out_lock = Lock()


class Rank(IntEnum):
    """The order in which servers are asked."""

    TO_TRY = 0
    ANSWERS = 1
    LEFT_OUT = 2


class NotHereError(Exception):
    """This server can't answer the question; the primary may."""


class Router:
    """Reads go to the current server, writes to the primary."""

    def db_for_read(self, model: Any, **_hints: Any) -> str:
        return current()

    def db_for_write(self, model: Any, **_hints: Any) -> str:
        return PRIMARY

    def allow_relation(self, *_objects: Any, **_hints: Any) -> bool:
        return True

    def allow_migrate(self, db: str, *_names: Any, **_hints: Any) -> bool:
        return db == PRIMARY


def replicas() -> list[str]:
    """The aliases of the replicas, in the order of DATABASE_REPLICA_URL."""
    return [alias for alias in connections if alias != PRIMARY]


def current() -> str:
    """The alias of the server that is asked now; the primary unless something else was said."""
    return _current.get()


@contextmanager
def at(server: str) -> Iterator[None]:
    """Ask this server in the block."""
    token = _current.set(server)
    try:
        yield
    finally:
        _current.reset(token)


def afresh(work: Callable[[], T]) -> T:
    """What work() comes to, on a new connection when the server had ended the one that was kept."""
    connection = connections[current()]
    try:
        return work()
    except (DatabaseError, InterfaceError) as error:
        if not is_of_server(error) or isinstance(error.__cause__, SilentServerError):
            raise
        if connection.in_atomic_block or connection.connection is None or connection.is_usable():
            raise
        connection.close()
        return work()


def read(work: Callable[[], T], *, first: str | None = None) -> T:
    """What work(), which only reads, comes to on the first server that can answer.

    The order is `first`, the replicas at random, the primary; those that were away come last. Each
    is asked once, and a server that is no replica of the primary never. Raises the error of the
    last one asked, or the first that is no server's fault.
    """
    if not replicas():
        return afresh(work)
    failure: Exception | None = None
    for server in _order(first):
        if server in _left_out:
            # One that takes no connections is found out in the seconds that a new one may take.
            connections[server].close()
        try:
            with at(server):
                answer = afresh(work if server == PRIMARY else partial(_work_at, server, work))
        except NotHereError:
            continue
        except StrangerError as error:
            _leave_out(server, error)
        except (DatabaseError, InterfaceError) as error:
            if _is_away(error):
                _leave_out(server, error)
            elif sqlstate(error) in REPLAY_CONFLICTS | UNKNOWN_YET:
                logger.warning("Asked another server than %s: %s", server, str(error).strip())
            else:
                raise
            failure = error
        else:
            if _left_out.pop(server, None) is not None:
                logger.info("The server %s answers again.", server)
            return answer
    assert failure is not None  # noqa: S101 - the primary answers or fails
    raise failure


def _work_at(replica: str, work: Callable[[], T]) -> T:
    refuse_stranger(replica, _identity_of_primary)
    return work()


def _identity_of_primary() -> Identity | None:
    """None while the primary is away: a request that must read there finds out when it is back."""
    if PRIMARY in _left_out:
        return None
    try:
        with at(PRIMARY):
            return afresh(lambda: identity.read(PRIMARY))
    except (DatabaseError, InterfaceError) as error:
        if _is_away(error):
            _leave_out(PRIMARY, error)
        return None


def _order(first: str | None) -> list[str]:
    """Every server once: `first` unless it is left out, those whose turn it is to be tried again,
    those that answer, the rest."""
    others = replicas()
    servers = [*random.sample(others, len(others)), PRIMARY]
    now = time.monotonic()
    with _left_out_lock:
        ranks = {server: _rank(server, now) for server in servers}
        servers.sort(
            key=lambda server: (ranks[server] is Rank.LEFT_OUT, server != first, ranks[server])
        )
        if ranks[servers[0]] is Rank.TO_TRY:
            # Whoever comes next need not wait for it as well.
            _left_out[servers[0]] = now + LEFT_OUT_SECONDS
    return servers


def _rank(server: str, now: float) -> Rank:
    until = _left_out.get(server)
    if until is None:
        return Rank.ANSWERS
    return Rank.LEFT_OUT if until > now else Rank.TO_TRY


def _is_away(error: Exception) -> bool:
    code = sqlstate(error)
    if code is None:
        return is_of_server(error)
    return code.startswith(AWAY) and code != QUERY_CANCELED


def _leave_out(server: str, error: Exception) -> None:
    connections[server].close()
    _left_out[server] = time.monotonic() + LEFT_OUT_SECONDS
    logger.warning(
        "The server %s is left out for %g s: %s", server, LEFT_OUT_SECONDS, str(error).strip()
    )
