"""Responses: JSON, with a tag for conditional requests."""

import json
from collections.abc import Mapping
from datetime import date
from typing import Any
from uuid import UUID

import orjson
from django.http import HttpResponse, HttpResponseNotModified
from django.utils.crypto import salted_hmac
from django.utils.http import parse_etags
from rest_framework.request import Request

from usage.lists.pagination import Cursor

# Increase it when the response format changes, or clients keep serving cached responses.
API_RELEASE = 2

# A response depends on the credentials, so a cache stores one for each (Vary). It must revalidate a
# stored response before each use (no-cache).
HEADERS = {
    "Cache-Control": "private, no-cache",
    "Vary": "Authorization, Cookie, Accept",
    # A browser must not run anything in a response, or show it inside a page.
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
}


def page(envelope: Mapping[str, Any]) -> HttpResponse:
    """Return a response with the envelope as JSON."""
    return HttpResponse(as_json(envelope), content_type="application/json")


def not_modified(tag: str) -> HttpResponse:
    """Return a 304: the stored response with this tag is still current."""
    return HttpResponseNotModified(headers={"ETag": tag})


def tag_of(*parts: object) -> str:
    """Return the tag of the response that these parts identify.

    It is weak, since a proxy may compress the response. The secret key signs it, so a client cannot
    forge a tag, and a new key changes every tag: it also invalidates the cursors in responses.
    """
    digest = salted_hmac("usage.api.responses", repr((API_RELEASE, parts)), algorithm="sha256")
    return f'W/"{digest.hexdigest()[:32]}"'


def is_known(request: Request, tag: str) -> bool:
    """Return whether If-None-Match says that the client has the response with this tag."""
    header = request.META.get("HTTP_IF_NONE_MATCH")
    if header is None:
        return False
    known = parse_etags(header)
    # If-None-Match ignores whether a tag is weak or strong (RFC 9110, 13.1.2).
    return known == ["*"] or tag.removeprefix("W/") in (each.removeprefix("W/") for each in known)


def next_url(request: Request, cursor: Cursor) -> str:
    """Return the absolute URL of the page that the cursor describes."""
    parameters = request.query_params.copy()
    parameters["cursor"] = cursor.sign()
    return request.build_absolute_uri(f"{request.path}?{parameters.urlencode(safe=',')}")


def as_json(envelope: Mapping[str, Any]) -> bytes:
    """Return compact JSON. Moments must be text already: orjson omits the fraction of a whole
    second, and a function that it calls for each moment takes a tenth of the time of a request."""
    try:
        return orjson.dumps(envelope)
    except TypeError:
        # A sum may have more than 64 bits, which orjson refuses.
        text = json.dumps(envelope, default=_text, ensure_ascii=False, separators=(",", ":"))
        return text.encode()


def _text(value: Any) -> str:
    """Return the text of a value without a type in JSON. Raises TypeError for unexpected types."""
    match value:
        case date():
            return value.isoformat()
        case UUID():
            return str(value)
    raise TypeError(f"{type(value).__name__} has no text in JSON.")
