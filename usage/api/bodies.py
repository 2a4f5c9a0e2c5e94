"""The body of a request: JSON, short, and without a field that nobody reads."""

from collections.abc import Mapping
from typing import IO, Any

import orjson
from rest_framework.exceptions import ErrorDetail, ParseError, ValidationError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

LARGEST_BODY = 10_000
NO_BODY = "Send no body, or {}."


class ShortJson(BaseParser):
    """The parser of every endpoint. Not that of DRF, which reads a body of any length and fails
    where it is nested deeply."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """What the JSON means. Raises ParseError."""
        text = stream.read(LARGEST_BODY + 1)
        if len(text) > LARGEST_BODY:
            raise ParseError(f"The body has more than {LARGEST_BODY} bytes. {NO_BODY}")
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise ParseError(f"The body is no JSON: {error}. {NO_BODY}") from error


def refuse_fields(request: Request) -> None:
    """Raises ValidationError that names every field of the body: there is none here.

    Raises ParseError for what is no JSON object, UnsupportedMediaType for another type than JSON.
    """
    fields = request.data
    if not isinstance(fields, dict):
        raise ParseError(f"The body is no JSON object. {NO_BODY}")
    if fields:
        fault = ErrorDetail(f"Unknown field. {NO_BODY}", code="unknown")
        raise ValidationError({name[:100]: [fault] for name in fields})
