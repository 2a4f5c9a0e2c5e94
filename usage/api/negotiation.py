"""What an answer is written in: JSON, or CSV where a list is asked for as such."""

from collections.abc import Iterable

from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from usage.api.filters import CSV, JSON

MEDIA_TYPES = {"application/json": JSON, "text/csv": CSV}


class Negotiation(DefaultContentNegotiation):
    """The one renderer, JSON, and the media type that the Accept header likes best.

    The parameter `format` wins over the header, so with it every header is good.
    """

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        [renderer] = renderers
        # Most clients take anything; to parse that took a fifteenth of a request.
        if request.META.get("HTTP_ACCEPT", "") in ("", "*/*"):
            return renderer, renderer.media_type
        # Best liked first.
        for accepted in request.accepted_types:
            for media_type in MEDIA_TYPES:
                if accepted.match(media_type):
                    return renderer, media_type
        if "format" not in request.query_params:
            raise NotAcceptable
        return renderer, renderer.media_type


def format_accepted(request: Request) -> str:
    """JSON or CSV, as the Accept header would have it."""
    return MEDIA_TYPES[request.accepted_media_type]
