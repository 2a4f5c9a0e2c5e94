"""The content security policy of responses."""

from csp.constants import HEADER
from csp.middleware import CSPMiddleware
from django.http import HttpRequest
from django.http.response import HttpResponseBase


class PagesPolicy(CSPMiddleware):
    """Middleware that adds the policy of pages. Responses of the API have one already: building it
    for each took a tenth of the time of a request."""

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        return response if HEADER in response else super().process_response(request, response)
