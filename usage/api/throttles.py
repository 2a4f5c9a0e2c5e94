"""Rate limits of an address and of a token, counted in Valkey by the minute of the clock.

The throttles of DRF are not used: each reads a list of moments, changes it and writes it back. That
takes four round trips instead of one, and loses concurrent writes.
"""

import hashlib
import logging
from functools import lru_cache
from threading import local
from time import monotonic, time
from typing import Any

from django.conf import settings
from django.db import connections
from redis import ConnectionPool, RedisError
from redis.backoff import NoBackoff
from redis.connection import ConnectionInterface
from redis.exceptions import NoScriptError
from redis.retry import Retry
from rest_framework.exceptions import Throttled
from rest_framework.request import Request

from usage.addresses import client_network
from usage.api.authentication import sent_key

WINDOW_SECONDS = 60
# How long a request waits for Valkey, and how long all requests skip it after a timeout.
PATIENCE_SECONDS = 0.1
PAUSE_SECONDS = 5.0

# The script counts the address first. Beyond the limit of the address it stores no count of a
# token, so an address that guesses keys does not fill Valkey.
COUNT = """
local counts = {}
for number, key in ipairs(KEYS) do
    local count = redis.call('INCR', key)
    if count == 1 then
        redis.call('EXPIRE', key, ARGV[1])
    end
    counts[number] = count
    if count > tonumber(ARGV[number + 1]) then
        break
    end
end
return counts
"""
COUNT_DIGEST = hashlib.sha1(COUNT.encode(), usedforsecurity=False).hexdigest()

logger = logging.getLogger(__name__)
_paused_until = 0.0
_of_thread = local()


def count_request(request: Request) -> None:
    """Count a request. Raises Throttled, with the seconds to wait, if the address or the token is
    beyond its limit in this minute. Never raises while Valkey is unreachable."""
    limits = {
        f"address:{client_network(request._request)}": settings.USAGE_ADDRESS_REQUESTS_PER_MINUTE
    }
    if (key := sent_key(request._request)) is not None:
        digest = hashlib.sha256(key.encode()).hexdigest()[:32]
        limits[f"token:{digest}"] = settings.USAGE_TOKEN_REQUESTS_PER_MINUTE
    now = time()
    minute = int(now // WINDOW_SECONDS)
    prefix = f"usage:requests:{_database()}"
    counts = _counts([f"{prefix}:{name}:{minute}" for name in limits], list(limits.values()))
    if any(count > limit for count, limit in zip(counts, limits.values(), strict=False)):
        raise Throttled(wait=WINDOW_SECONDS - int(now % WINDOW_SECONDS))


def _database() -> str:
    """Return a digest that separates the counts of two databases that share Valkey.

    The address of the database identifies it, because requests are also counted while the database
    is unreachable.
    """
    address = connections.settings["default"]
    return _digest_of(*(str(address[part]) for part in ("HOST", "PORT", "NAME")))


@lru_cache(maxsize=4)
def _digest_of(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:16]


def _counts(keys: list[str], limits: list[int]) -> list[int]:
    global _paused_until
    if monotonic() < _paused_until:
        return []
    arguments = [COUNT_DIGEST, len(keys), *keys, 2 * WINDOW_SECONDS, *limits]
    try:
        connection = _connection(settings.REDIS_URL)
        if connection is None:
            return []
        try:
            return _reply(connection, "EVALSHA", *arguments)
        except NoScriptError:
            return _reply(connection, "EVAL", COUNT, *arguments[1:])
    except RedisError as error:
        _of_thread.__dict__.clear()
        _paused_until = monotonic() + PAUSE_SECONDS
        logger.warning("Requests are not counted for %.0f s: %s", PAUSE_SECONDS, error)
        return []


def _reply(connection: ConnectionInterface, *command: Any) -> Any:
    connection.send_packed_command(connection.pack_command(*command), check_health=False)
    return connection.read_response()


def _connection(url: str) -> ConnectionInterface | None:
    """Return the connection of this thread: taking one from a pool costs more than the command.

    None for a URL that only Celery understands.
    """
    if (kept := _of_thread.__dict__.get(url)) is not None:
        return kept
    try:
        pool = ConnectionPool.from_url(
            url,
            socket_timeout=PATIENCE_SECONDS,
            socket_connect_timeout=PATIENCE_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        return None
    connection = pool.make_connection()
    connection.connect()
    _of_thread.__dict__[url] = connection
    return connection
