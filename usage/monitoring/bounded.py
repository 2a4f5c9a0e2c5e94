"""Queries with a deadline on the client, for servers that may hang."""

import time
from collections.abc import Mapping
from typing import Any

import psycopg2
from django.conf import settings
from django.db import connections
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from usage.database import routing
from usage.database.read_timeout import SilentServerError, wait_until

# Short enough that the database and the broker, one after the other, stay below the usual
# timeout of a probe.
PATIENCE_SECONDS = 2.0


class NoAnswerError(Exception):
    """The server refused, broke the connection or timed out. The message holds no address."""


def ask_database(
    query: str, server: str = routing.PRIMARY, parameters: Mapping[str, Any] | None = None
) -> tuple[Any, ...]:
    """Run the query in a new session of the server and return its first row.

    Raises NoAnswerError after PATIENCE_SECONDS, or when the server refuses. Only the resolver
    limits the lookup of a host name.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        # A server that hangs does not apply its own statement_timeout, so the client waits with a
        # deadline.
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
    """Send one command to the broker and return its reply.

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
    except Exception as error:  # the client raises its own errors, socket errors and ValueError
        raise NoAnswerError(_broker_says(error)) from error


def _broker_says(error: Exception) -> str:
    if isinstance(error, TimeoutError) or type(error).__name__ == "TimeoutError":
        return f"did not answer within {PATIENCE_SECONDS:g} s"
    return "cannot be reached or refused"
