"""Sessions of people, read over a connection that is known to be alive."""

from collections.abc import Awaitable

from django.conf import settings
from django.contrib.sessions.middleware import SessionMiddleware
from django.db import DatabaseError, InterfaceError, connections
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from usage.services import servers


class PeoplesSessions(SessionMiddleware):
    """Looks at a kept connection before a session is read. A request with a token, of which there
    are many more, finds out by its first statement and is spared the look.

    While the primary is away, a replica is asked who the person is.
    """

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if settings.SESSION_COOKIE_NAME not in request.COOKIES:
            return super().__call__(request)
        with servers.at(_answering_server()):
            return super().__call__(request)


def _answering_server() -> str:
    try:
        return servers.read(_look, first=servers.PRIMARY)
    except (DatabaseError, InterfaceError):
        return servers.PRIMARY


def _look() -> str:
    server = servers.current()
    connection = connections[server]
    is_kept = connection.connection is not None and not connection.in_atomic_block
    if is_kept and not connection.is_usable():
        connection.close()
    # Where there is no other server, whoever reads first says that this one is away.
    if servers.replicas():
        connection.ensure_connection()
    return server
