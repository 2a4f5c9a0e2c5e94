"""A client-side read timeout, for a server that hangs without closing its connections.

The time limits of a frozen server do not work, and the kernel still acknowledges packets for it. So
only the client can end such a wait.
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

# Time for a server to report that a statement reached its limit.
GRACE_SECONDS = 5


class SilentServerError(OperationalError):
    """The server sent nothing in time. It may still run the statement."""


def give_up_silent_servers() -> None:
    """Limit the wait for every statement of this process from now on.

    The driver calls wait() for each wait, and closes a connection whose wait raises an error. This
    mode of the driver does not support COPY.
    """
    most_seconds = {
        STATUS_READY: settings.WEB_STATEMENT_TIMEOUT_SECONDS + GRACE_SECONDS,
        # Inside a transaction: a CSV download has this statement timeout in its transaction.
        STATUS_BEGIN: settings.DOWNLOAD_STATEMENT_TIMEOUT_SECONDS + GRACE_SECONDS,
    }

    def wait(connection: Any) -> None:
        seconds = most_seconds.get(connection.status) or _connect_seconds(connection)
        wait_until(monotonic() + seconds, connection)

    set_wait_callback(wait)


def wait_until(deadline: float, connection: Any) -> None:
    """Wait for the response of the server, or for the connection to be made.

    `deadline` is a reading of time.monotonic(). Raises SilentServerError when it passes.
    """
    while (state := connection.poll()) != POLL_OK:
        awaited = poll()
        awaited.register(connection, POLLIN if state == POLL_READ else POLLOUT)
        remaining = deadline - monotonic()
        if remaining <= 0 or not awaited.poll(1000 * remaining):
            raise SilentServerError(
                "The database server did not respond in time. Check whether its machine, disks or "
                "processes hang. Behind a pool, check whether a connection is free."
            )


def _connect_seconds(connection: Any) -> float:
    """Return connect_timeout, which the driver does not apply in this mode, or a default."""
    seconds = int(connection.info.dsn_parameters.get("connect_timeout", 0))
    return seconds if seconds > 0 else settings.WEB_STATEMENT_TIMEOUT_SECONDS
