"""Servers that stand still: their connections are open, and nothing comes.

Neither the server's own limits end such a wait nor those of the kernel, which finds everybody
alive, so it has a limit here.
"""

from select import POLLIN, POLLOUT, poll
from time import monotonic
from typing import Any

from django.conf import settings
from psycopg2 import OperationalError
from psycopg2.extensions import (
    POLL_OK,
    POLL_READ,
    STATUS_BEGIN,
    STATUS_READY,
    set_wait_callback,
)

# What a server may take, beyond the limit of a statement, to say that it was reached.
GRACE_SECONDS = 5


class SilentServerError(OperationalError):
    """The server said nothing in time. It may still be at work on what it was asked."""


def give_up_silent_servers() -> None:
    """From now on no statement of this process waits for ever, and it can't COPY: the driver then
    asks here how to wait, and closes a connection whose wait ended in an error."""
    most_seconds = {
        STATUS_READY: settings.WEB_STATEMENT_TIMEOUT_SECONDS + GRACE_SECONDS,
        # Within a transaction: a CSV sets this limit in its own.
        STATUS_BEGIN: settings.DOWNLOAD_STATEMENT_TIMEOUT_SECONDS + GRACE_SECONDS,
    }

    def wait(connection: Any) -> None:
        seconds = most_seconds.get(connection.status) or _connect_seconds(connection)
        wait_until(monotonic() + seconds, connection)

    set_wait_callback(wait)


def wait_until(deadline: float, connection: Any) -> None:
    """Return when the server has answered, or the connection is made; `deadline` is by
    time.monotonic().

    Raises SilentServerError when nothing comes by then.
    """
    while (state := connection.poll()) != POLL_OK:
        awaited = poll()
        awaited.register(connection, POLLIN if state == POLL_READ else POLLOUT)
        remaining = deadline - monotonic()
        if remaining <= 0 or not awaited.poll(1000 * remaining):
            raise SilentServerError(
                "The database server says nothing, so it was given up. See whether its machine, "
                "disks and processes stand still or, behind a pool, no connection is free."
            )


def _connect_seconds(connection: Any) -> float:
    """connect_timeout, which the driver leaves to who waits; a server that is well takes less."""
    given = int(connection.info.dsn_parameters.get("connect_timeout", 0))
    return given if given > 0 else settings.WEB_STATEMENT_TIMEOUT_SECONDS
