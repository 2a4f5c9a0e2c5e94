"""The format of a response: JSON, or CSV if the request of a list says so."""

from collections.abc import Iterable

from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from usage.lists.filters import CSV, JSON

MEDIA_TYPES = {"application/json": JSON, "text/csv": CSV}


class Negotiation(DefaultContentNegotiation):
    """Content negotiation: the media type that the Accept header prefers, and one renderer, JSON.

    The parameter `format` overrides the header, so with it every header is accepted.
    """

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        [renderer] = renderers
        # Most clients accept anything. Parsing that took a fifteenth of the time of a request.
        if request.META.get("HTTP_ACCEPT", "") in ("", "*/*"):
            return renderer, renderer.media_type
        # accepted_types has the preferred type first.
        for accepted in request.accepted_types:
            for media_type in MEDIA_TYPES:
                if accepted.match(media_type):
                    return renderer, media_type
        if "format" not in request.query_params:
            raise NotAcceptable
        return renderer, renderer.media_type


def format_accepted(request: Request) -> str:
    """Return JSON or CSV, as the Accept header prefers."""
    return MEDIA_TYPES[request.accepted_media_type]
