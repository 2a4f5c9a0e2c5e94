"""Redirects that keep the method and the body of a request."""

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

MOVED, PERMANENT_REDIRECT = 301, 308


class KeepMethod:
    """Middleware that redirects by 308 instead of Django's 301: to the path with its slash, and to
    https.

    Clients follow the 301 of a POST with a GET, so the POST would be lost without an error.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if response.status_code == MOVED:
            response.status_code = PERMANENT_REDIRECT
        return response
