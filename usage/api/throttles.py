"""Rate limits of an address and of a token, counted in Valkey by the minute of the clock.

The throttles of DRF are not used: each reads a list of moments, changes it and writes it back, so
requests at the same moment count as one.
"""

import hashlib
import logging
from collections.abc import Iterator
from functools import lru_cache
from time import monotonic, time

from django.conf import settings
from django.db import connections
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.retry import Retry
from rest_framework.exceptions import Throttled
from rest_framework.request import Request

from usage.addresses import client_network
from usage.api.authentication import sent_key

WINDOW_SECONDS = 60
# How long a request waits for Valkey, and how long all requests skip it after a timeout.
PATIENCE_SECONDS = 0.1
PAUSE_SECONDS = 5.0

# Returns 1 if a count is beyond its limit. Further counts are not stored then: the address comes
# first, so an address that guesses keys does not fill Valkey with counts of tokens.
COUNT = """
for number, key in ipairs(KEYS) do
    local count = redis.call('INCR', key)
    redis.call('EXPIRE', key, ARGV[1])
    if count > tonumber(ARGV[number + 1]) then
        return 1
    end
end
return 0
"""

logger = logging.getLogger(__name__)
_paused_until = 0.0


def count_request(request: Request) -> None:
    """Count a request. Raises Throttled, with the seconds to wait, if the address or the token is
    beyond its limit in this minute. Never raises while Valkey is unreachable."""
    global _paused_until
    counter = _counter(settings.REDIS_URL)
    if counter is None or monotonic() < _paused_until:
        return
    now = time()
    limits = {f"{name}:{int(now // WINDOW_SECONDS)}": limit for name, limit in _limits(request)}
    try:
        is_beyond = counter(keys=list(limits), args=[2 * WINDOW_SECONDS, *limits.values()])
    except RedisError as error:
        _paused_until = monotonic() + PAUSE_SECONDS
        logger.warning("Requests are not counted for %.0f s: %s", PAUSE_SECONDS, error)
        return
    if is_beyond:
        raise Throttled(wait=WINDOW_SECONDS - int(now % WINDOW_SECONDS))


def _limits(request: Request) -> Iterator[tuple[str, int]]:
    """Yield the name and the limit of each count. The address of the database, which may be
    unreachable now, separates two databases that share Valkey."""
    database = connections.settings["default"]
    prefix = f"usage:requests:{database['HOST']}:{database['PORT']}/{database['NAME']}"
    address = client_network(request._request)
    yield f"{prefix}:address:{address}", settings.USAGE_ADDRESS_REQUESTS_PER_MINUTE
    if (key := sent_key(request._request)) is not None:
        digest = hashlib.sha256(key.encode()).hexdigest()[:32]
        yield f"{prefix}:token:{digest}", settings.USAGE_TOKEN_REQUESTS_PER_MINUTE


@lru_cache(maxsize=1)
def _counter(url: str) -> Script | None:
    """Return the script on the server; None for an address that only Celery understands."""
    try:
        client = Redis.from_url(
            url,
            socket_timeout=PATIENCE_SECONDS,
            socket_connect_timeout=PATIENCE_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        return None
    return client.register_script(COUNT)
