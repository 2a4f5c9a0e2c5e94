"""Bodies of requests: short JSON without fields, since no endpoint reads one."""

from collections.abc import Mapping
from typing import IO, Any

import orjson
from rest_framework.exceptions import ErrorDetail, ParseError, ValidationError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

LARGEST_BODY = 10_000
NO_BODY = "Send no body, or {}."


class ShortJson(BaseParser):
    """The parser of every endpoint. The parser of DRF is not used: it reads a body of any length,
    and fails on deep nesting."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the value of the JSON. Raises ParseError."""
        text = stream.read(LARGEST_BODY + 1)
        if len(text) > LARGEST_BODY:
            raise ParseError(f"The body has more than {LARGEST_BODY} bytes. {NO_BODY}")
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise ParseError(f"The body is not JSON: {error}. {NO_BODY}") from error


def refuse_fields(request: Request) -> None:
    """Raise ValidationError that names every field of the body, for an endpoint without fields.

    Raises ParseError if the body is not a JSON object, UnsupportedMediaType if it is not JSON by
    its media type.
    """
    fields = request.data
    if not isinstance(fields, dict):
        raise ParseError(f"The body is not a JSON object. {NO_BODY}")
    if fields:
        fault = ErrorDetail(f"Unknown field. {NO_BODY}", code="unknown")
        raise ValidationError({name[:100]: [fault] for name in fields})
