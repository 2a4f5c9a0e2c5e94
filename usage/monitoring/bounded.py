"""Questions to servers that may not answer: each ends within seconds, whatever the server does."""

import time
from collections.abc import Mapping
from typing import Any

import psycopg2
from django.conf import settings
from django.db import connections
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from usage.services import servers
from usage.services.silence import SilentServerError, wait_until

# Less than the usual time-out of a probe, for both servers one after the other.
PATIENCE_SECONDS = 2.0


class NoAnswerError(Exception):
    """The server refused, broke off or did not answer in time. Says which, and no address."""


def ask_database(
    query: str, server: str = servers.PRIMARY, parameters: Mapping[str, Any] | None = None
) -> tuple[Any, ...]:
    """The first row that a new session of the server is answered with.

    Raises NoAnswerError when it took longer than PATIENCE_SECONDS or the server said no. The
    look-up of a host name is bounded by the resolver alone.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        # A server that hangs is not stopped by its own statement_timeout: the wait is ours.
        session = psycopg2.connect(**connections[server].get_connection_params(), async_=True)
        try:
            wait_until(deadline, session)
            cursor = session.cursor()
            cursor.execute(query, parameters)
            wait_until(deadline, session)
            if (row := cursor.fetchone()) is None:
                raise NoAnswerError("has no row of state")
            return tuple(row)
        finally:
            session.close()
    except SilentServerError as error:
        raise NoAnswerError(f"did not answer within {PATIENCE_SECONDS:g} s") from error
    except psycopg2.Error as error:
        code = error.pgcode
        raise NoAnswerError(f"refused ({code})" if code else "cannot be reached") from error


def ask_broker(*command: str | int) -> Any:
    """What the broker replies to one command.

    Raises NoAnswerError when it does not reply within PATIENCE_SECONDS.
    """
    try:
        with Redis.from_url(
            settings.REDIS_URL.replace("redis+socket://", "unix://", 1),
            socket_connect_timeout=PATIENCE_SECONDS,
            socket_timeout=PATIENCE_SECONDS,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            return client.execute_command(*command)
    except Exception as error:  # the client raises its own, those of sockets and ValueError
        raise NoAnswerError(_broker_says(error)) from error


def _broker_says(error: Exception) -> str:
    if isinstance(error, TimeoutError) or type(error).__name__ == "TimeoutError":
        return f"did not answer within {PATIENCE_SECONDS:g} s"
    return "cannot be reached or refused"
