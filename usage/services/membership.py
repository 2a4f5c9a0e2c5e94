"""Whether a replica belongs to the primary: compared before it answers, again every second.

A server that was promoted, that follows another server or has another database answers other
totals, as quickly and as surely as the right one.
"""

import time
from collections.abc import Callable

from usage.services import identity
from usage.services.identity import Identity

# How old the last comparison may be: then one request makes another before it is answered.
COMPARE_SECONDS = 1.0

_compared_at: dict[str, float] = {}
_primary: Identity | None = None


class StrangerError(Exception):
    """The server is no replica of the primary. Says why."""


def refuse_stranger(server: str, ask_primary: Callable[[], Identity | None]) -> None:
    """Raise StrangerError when the server of this alias is no replica of the primary.

    `ask_primary` returns the identity of the primary, or None while it is away: then the one that
    was known last counts.
    """
    global _primary
    now = time.monotonic()
    if now - _compared_at.get(server, float("-inf")) < COMPARE_SECONDS:
        return
    _primary = ask_primary() or _primary
    found = identity.read(server)
    fault = "has no state" if found is None else identity.fault_of_replica(found, _primary)
    if fault:
        _compared_at.pop(server, None)
        raise StrangerError(fault)
    _compared_at[server] = now
