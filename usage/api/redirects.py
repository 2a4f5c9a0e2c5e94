"""Redirects that keep what was sent."""

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

MOVED, PERMANENT_REDIRECT = 301, 308


class KeepMethod:
    """Answers 308 where Django answers 301: to a path with its slash, and to https.

    Clients follow a 301 of a POST with a GET, which does nothing and says nothing.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if response.status_code == MOVED:
            response.status_code = PERMANENT_REDIRECT
        return response
