"""Sessions of people, read over a connection that is known to be open."""

from collections.abc import Awaitable

from django.conf import settings
from django.contrib.sessions.middleware import SessionMiddleware
from django.db import DatabaseError, InterfaceError, connections
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from usage.database import routing


class PeoplesSessions(SessionMiddleware):
    """Session middleware that checks a persistent connection before it reads a session.

    Requests with a token, which are far more frequent, skip this check: their first statement
    detects a dead connection. While the primary is unreachable, a replica reads the session.
    """

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if settings.SESSION_COOKIE_NAME not in request.COOKIES:
            return super().__call__(request)
        with routing.at(_reachable_server()):
            return super().__call__(request)


def _reachable_server() -> str:
    try:
        return routing.read(_probe, first=routing.PRIMARY)
    except (DatabaseError, InterfaceError):
        return routing.PRIMARY


def _probe() -> str:
    server = routing.current()
    connection = connections[server]
    is_kept = connection.connection is not None and not connection.in_atomic_block
    if is_kept and not connection.is_usable():
        connection.close()
    # Without a replica, the first read of the request reports that the primary is unreachable.
    if routing.replicas():
        connection.ensure_connection()
    return server
