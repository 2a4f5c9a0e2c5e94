"""The choice of the server for a request: the primary, or a streaming replica.

Writes go to the primary, and so do reads that must be current. Reads that accept the state of a
replica go to a replica. A server that is unavailable is left out for some seconds.
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

from usage.database import identity
from usage.database.errors import (
    DEADLOCK,
    NOT_MIGRATED,
    NOT_POPULATED,
    QUERY_CANCELED,
    SERIALIZATION_FAILURE,
    is_server_error,
    sqlstate,
)
from usage.database.identity import Identity
from usage.database.membership import NoReplicaError, check_is_replica
from usage.database.read_timeout import SilentServerError

PRIMARY = "default"

# After this time one request tries the server again, while others go on without it.
LEFT_OUT_SECONDS = 10.0

# SQLSTATEs of a broken connection, of too many connections, and of a server that shuts down or
# starts. A disk full of temporary files (53100) is no reason to leave a server out: the query
# caused it, and would do so on the next server.
AWAY = ("08", "53300", "57")
# SQLSTATEs of a read that a replica cancels because it delays replay for too long.
REPLAY_CONFLICTS = {SERIALIZATION_FAILURE, DEADLOCK}
# SQLSTATEs of an object that a migration or the first refresh made, before replay has reached it.
UNKNOWN_YET = {NOT_POPULATED, *NOT_MIGRATED}

logger = logging.getLogger(__name__)

T = TypeVar("T")

_current: ContextVar[str] = ContextVar("server", default=PRIMARY)
_left_out: dict[str, float] = {}
_left_out_lock = Lock()


class Rank(IntEnum):
    """The order in which servers are tried."""

    TO_TRY_AGAIN = 0
    AVAILABLE = 1
    LEFT_OUT = 2


class NotHereError(Exception):
    """The current server cannot serve this request; the primary may."""


class Router:
    """The database router: reads go to the current server, writes to the primary."""

    def db_for_read(self, model: Any, **_hints: Any) -> str:
        return current()

    def db_for_write(self, model: Any, **_hints: Any) -> str:
        return PRIMARY

    def allow_relation(self, *_objects: Any, **_hints: Any) -> bool:
        return True

    def allow_migrate(self, db: str, *_names: Any, **_hints: Any) -> bool:
        return db == PRIMARY


def replicas() -> list[str]:
    """Return the aliases of the replicas, in the order of DATABASE_REPLICA_URL."""
    return [alias for alias in connections if alias != PRIMARY]


def current() -> str:
    """Return the alias of the current server: the primary, except inside a block of at()."""
    return _current.get()


@contextmanager
def at(server: str) -> Iterator[None]:
    """Send the queries of the block to this server."""
    token = _current.set(server)
    try:
        yield
    finally:
        _current.reset(token)


def with_reconnect(work: Callable[[], T]) -> T:
    """Run work(). If the persistent connection turns out to be dead, reconnect and run it once
    more."""
    connection = connections[current()]
    try:
        return work()
    except (DatabaseError, InterfaceError) as error:
        if not is_server_error(error) or isinstance(error.__cause__, SilentServerError):
            raise
        if connection.in_atomic_block or connection.connection is None or connection.is_usable():
            raise
        connection.close()
        return work()


def read(work: Callable[[], T], *, first: str | None = None) -> T:
    """Run work(), which must only read, on the first server that can serve it.

    The order is `first`, the replicas in random order, the primary; servers that are left out come
    last. Each server is tried once, and a server that is no replica of the primary is never used.
    Raises the first error that is not the fault of a server, or else the error of the last server.
    """
    if not replicas():
        return with_reconnect(work)
    failure: Exception | None = None
    for server in _order(first):
        if server in _left_out:
            # A new connection has a short timeout, so a hanging server costs only seconds.
            connections[server].close()
        try:
            with at(server):
                result = with_reconnect(
                    work if server == PRIMARY else partial(_work_at, server, work)
                )
        except NotHereError:
            continue
        except NoReplicaError as error:
            _leave_out(server, error)
        except (DatabaseError, InterfaceError) as error:
            if _is_away(error):
                _leave_out(server, error)
            elif sqlstate(error) in REPLAY_CONFLICTS | UNKNOWN_YET:
                logger.warning(
                    "A read on the server %s failed; another server is tried: %s",
                    server,
                    str(error).strip(),
                )
            else:
                raise
            failure = error
        else:
            if _left_out.pop(server, None) is not None:
                logger.info("The server %s is available again.", server)
            return result
    assert failure is not None  # noqa: S101 - the primary returns or fails
    raise failure


def _work_at(replica: str, work: Callable[[], T]) -> T:
    check_is_replica(replica, _identity_of_primary)
    return work()


def _identity_of_primary() -> Identity | None:
    """Return the identity of the primary, or None while it is left out.

    This never tries a left-out primary: a request that must read there does so.
    """
    if PRIMARY in _left_out:
        return None
    try:
        with at(PRIMARY):
            return with_reconnect(lambda: identity.read(PRIMARY))
    except (DatabaseError, InterfaceError) as error:
        if _is_away(error):
            _leave_out(PRIMARY, error)
        return None


def _order(first: str | None) -> list[str]:
    """Return every server once: `first` unless it is left out, servers to try again, available
    servers, left-out servers."""
    others = replicas()
    servers = [*random.sample(others, len(others)), PRIMARY]
    now = time.monotonic()
    with _left_out_lock:
        ranks = {server: _rank(server, now) for server in servers}
        servers.sort(
            key=lambda server: (ranks[server] is Rank.LEFT_OUT, server != first, ranks[server])
        )
        if ranks[servers[0]] is Rank.TO_TRY_AGAIN:
            # Only this request tries the server again; others must not wait for it too.
            _left_out[servers[0]] = now + LEFT_OUT_SECONDS
    return servers


def _rank(server: str, now: float) -> Rank:
    until = _left_out.get(server)
    if until is None:
        return Rank.AVAILABLE
    return Rank.LEFT_OUT if until > now else Rank.TO_TRY_AGAIN


def _is_away(error: Exception) -> bool:
    code = sqlstate(error)
    if code is None:
        return is_server_error(error)
    return code.startswith(AWAY) and code != QUERY_CANCELED


def _leave_out(server: str, error: Exception) -> None:
    connections[server].close()
    _left_out[server] = time.monotonic() + LEFT_OUT_SECONDS
    logger.warning(
        "The server %s is left out for %g s: %s", server, LEFT_OUT_SECONDS, str(error).strip()
    )
