"""How an answer leaves: as JSON, and with a tag, so that a client that has it is told so."""

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

# Raise it when the same totals come to another answer than before, or clients keep the old one.
API_RELEASE = 2

# Whoever signs in differently may get another answer; one that was kept is asked about each time.
HEADERS = {
    "Cache-Control": "private, no-cache",
    "Vary": "Authorization, Cookie, Accept",
    # Nothing in an answer is to run or to be shown in a page.
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
}


def page(envelope: Mapping[str, Any]) -> HttpResponse:
    """The envelope as JSON."""
    return HttpResponse(as_json(envelope), content_type="application/json")


def not_modified(tag: str) -> HttpResponse:
    """Says that the answer with this tag is still the answer."""
    return HttpResponseNotModified(headers={"ETag": tag})


def tag_of(*parts: object) -> str:
    """The tag of the answer that these make out, weak since a proxy may compress it.

    Nobody can make one up, and a change of the secret key, which ends cursors, changes it.
    """
    digest = salted_hmac("usage.api.responses", repr((API_RELEASE, parts)), algorithm="sha256")
    return f'W/"{digest.hexdigest()[:32]}"'


def is_known(request: Request, tag: str) -> bool:
    """Whether the client has the answer with this tag, by its If-None-Match."""
    given = request.META.get("HTTP_IF_NONE_MATCH")
    if given is None:
        return False
    known = parse_etags(given)
    # Weak and strong tags are compared by what they name.
    return known == ["*"] or tag.removeprefix("W/") in (each.removeprefix("W/") for each in known)


def as_json(envelope: Mapping[str, Any]) -> bytes:
    """Compact JSON. Moments are text already: orjson leaves out the digits of a whole second, and
    to hand it each moment one by one takes a tenth of a request."""
    try:
        return orjson.dumps(envelope)
    except TypeError:
        # orjson refuses a number of more than 64 bits, which a sum may have.
        text = json.dumps(envelope, default=_text, ensure_ascii=False, separators=(",", ":"))
        return text.encode()


def _text(value: Any) -> str:
    """The text of what JSON has no type for. Raises TypeError for anything that is not sent."""
    match value:
        case date():
            return value.isoformat()
        case UUID():
            return str(value)
    raise TypeError(f"{type(value).__name__} has no text in JSON.")
