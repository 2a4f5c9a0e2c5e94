"""What every endpoint of the API does, whatever it answers."""

from rest_framework.request import Request
from rest_framework.views import APIView

from usage.api import responses
from usage.api.throttles import count_request


class Endpoint(APIView):
    """Counts a request before it looks who asks, so that guessing keys is counted too."""

    @property
    def default_response_headers(self) -> dict[str, str]:
        return super().default_response_headers | responses.HEADERS

    def perform_authentication(self, request: Request) -> None:
        count_request(request)
        super().perform_authentication(request)
