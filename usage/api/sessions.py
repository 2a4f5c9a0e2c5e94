"""Sessions of people, read over a connection that is known to be alive."""

from django.conf import settings
from django.contrib.sessions.middleware import SessionMiddleware
from django.db import connection
from django.http import HttpRequest


class PeoplesSessions(SessionMiddleware):
    """Looks at a kept connection before a session is read. A request with a token, of which there
    are many more, finds out by its first statement and is spared the look."""

    def process_request(self, request: HttpRequest) -> None:
        super().process_request(request)
        if (
            settings.SESSION_COOKIE_NAME in request.COOKIES
            and connection.connection is not None
            and not connection.in_atomic_block
            and not connection.is_usable()
        ):
            connection.close()
