"""The check that a replica belongs to the primary: before its first response, then every second.

A server that was promoted, follows another server or has another database would respond normally,
but with wrong totals.
"""

import time
from collections.abc import Callable

from usage.database import identity
from usage.database.identity import Identity

# The maximum age of the last comparison; the next request compares again before it reads.
COMPARE_SECONDS = 1.0

_compared_at: dict[str, float] = {}
_primary: Identity | None = None


class NoReplicaError(Exception):
    """The server is no replica of the primary; the message is the reason."""


def check_is_replica(server: str, read_primary: Callable[[], Identity | None]) -> None:
    """Raise NoReplicaError if the server with this alias is no replica of the primary.

    `read_primary` returns the identity of the primary, or None while it is unavailable; then the
    last known identity is used.
    """
    global _primary
    now = time.monotonic()
    if now - _compared_at.get(server, float("-inf")) < COMPARE_SECONDS:
        return
    _primary = read_primary() or _primary
    found = identity.read(server)
    fault = (
        "has no row in usage_state" if found is None else identity.fault_of_replica(found, _primary)
    )
    if fault:
        _compared_at.pop(server, None)
        raise NoReplicaError(fault)
    _compared_at[server] = now
