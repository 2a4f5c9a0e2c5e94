"""Detection of a reverse proxy that DJANGO_PROXIES does not count.

Behind such a proxy all clients have one address, so ten wrong passwords of one client lock
everybody out. Web processes store the address of such a proxy in Valkey, and
`manage.py check --deploy` reads it there.
"""

import logging
import time
from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest

from usage.addresses import client_address
from usage.monitoring.bounded import NoAnswerError, ask_broker

KEY = "usage:uncounted-proxy"
KEPT_SECONDS = 86_400
SECONDS_BETWEEN_NOTES = 3_600.0

logger = logging.getLogger(__name__)
_next_note = 0.0


def notice(request: HttpRequest) -> None:
    """Log a proxy, once an hour in each process, and store its address in Valkey for a day."""
    global _next_note
    if settings.DJANGO_PROXIES or "HTTP_X_FORWARDED_FOR" not in request.META:
        return
    peer = client_address(request)
    # A client on the Internet may send the header itself.
    if ip_address(peer).is_global or time.monotonic() < _next_note:
        return
    _next_note = time.monotonic() + SECONDS_BETWEEN_NOTES
    logger.warning(
        "Requests with X-Forwarded-For come from %s and DJANGO_PROXIES is 0, so all clients of "
        "that proxy share its limits. Set DJANGO_PROXIES to the number of your proxies.",
        peer,
    )
    try:
        ask_broker("SET", KEY, peer, "EX", KEPT_SECONDS)
    except NoAnswerError as error:
        logger.warning("The broker %s: check --deploy will not name the proxy.", error)


def uncounted_proxy() -> str | None:
    """Return the address of a proxy that was detected within a day; None if there is none, if
    DJANGO_PROXIES is set, or if the broker does not respond."""
    if settings.DJANGO_PROXIES:
        return None
    try:
        found = ask_broker("GET", KEY)
    except NoAnswerError:
        return None
    return found.decode() if isinstance(found, bytes) else None
