"""The base class of the endpoints."""

from rest_framework.request import Request
from rest_framework.views import APIView

from usage.api import responses
from usage.api.throttles import count_request
from usage.lists.query import Query


class Endpoint(APIView):
    """The base of every endpoint. It counts a request before authentication, so guesses of keys
    count too."""

    @property
    def default_response_headers(self) -> dict[str, str]:
        return super().default_response_headers | responses.HEADERS

    def perform_authentication(self, request: Request) -> None:
        count_request(request)
        super().perform_authentication(request)


class NoParameters(Query):
    """The query of an endpoint without parameters."""


def refuse_parameters(request: Request) -> None:
    """Raise ValidationError that names every parameter, for an endpoint without parameters."""
    _ = NoParameters(request.query_params).parameters
