"""What is answered, as the schema tells it: bodies, examples and headers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

from usage.api.answers import HEADERS
from usage.api.schema.hints import example_of, object_of, schema_of
from usage.api.schema.refusals import Refusal
from usage.api.values import Schema

TAG = 'W/"3ff0ca2b33ac71aadcdcdd42976f4fbd"'
JSON = "application/json"

ALWAYS = {name: f"`{HEADERS[name]}`" for name in ("Cache-Control", "Vary")}
ETAG = {"ETag": "Names this answer. Not where the rows are live, or may change at any time."}
OF_CSV = {
    "Content-Disposition": "Of a CSV: the name of the file.",
    "Usage-As-Of": "Of a CSV: `as_of`.",
    "Usage-Live": "Of a CSV: `live`.",
    "Usage-Time-Zone": "Of a CSV: `time_zone`.",
    "Usage-Currency": "Of a CSV: `currency`.",
}
OF_RUN = {"Location": "The path of the refresh."}

Named = Callable[[type], Schema]


def headers(always: Mapping[str, str], sometimes: Mapping[str, str] | None = None) -> Schema:
    """Those that an answer has, and those that only some answers have."""
    told = [(name, text, True) for name, text in always.items()]
    told += [(name, text, False) for name, text in (sometimes or {}).items()]
    return {
        name: {"description": text, "required": required, "schema": {"type": "string"}}
        for name, text, required in told
    }


def one(shape: type, named: Named) -> Schema:
    """An answer that is one such thing."""
    return {
        "description": str(shape.__doc__),
        "headers": headers(ALWAYS),
        "content": {JSON: {"schema": named(shape), "example": example_of(shape)}},
    }


def page(envelope: type, shape: type, named: Named) -> Schema:
    """A page of such things."""
    hints = get_type_hints(envelope, include_extras=True)
    properties = {
        name: {"type": "array", "items": named(shape)}
        if name == "results"
        else schema_of(hint, named)
        for name, hint in hints.items()
    }
    example: Any = {name: example_of(hint) for name, hint in hints.items() if name != "results"}
    return {
        "description": str(envelope.__doc__),
        "headers": headers(ALWAYS),
        "content": {
            JSON: {
                "schema": object_of(properties, str(envelope.__doc__)),
                "example": example | {"results": [example_of(shape)]},
            }
        },
    }


def also_csv(page: Schema, columns: Sequence[str], *, has_tag: bool) -> Schema:
    """The answer that is a page, or every row as CSV."""
    csv = {"schema": {"type": "string"}, "example": ",".join(columns) + "\r\n"}
    return page | {
        "description": f"{page['description']} As CSV every row, with the columns "
        f"{', '.join(columns)}.",
        "headers": headers(ALWAYS, OF_CSV | (ETAG if has_tag else {})),
        "content": page["content"] | {"text/csv": csv},
    }


def accepted(shape: type, named: Named) -> Schema:
    """The answer that is a refresh which waits for a worker."""
    return one(shape, named) | {"headers": headers(ALWAYS | OF_RUN)}


def description() -> Schema:
    """The answer that is this description."""
    schema = {"type": "object", "required": ["openapi", "info", "paths"]}
    return {
        "description": "This description, in OpenAPI 3.1.",
        "headers": headers(ALWAYS),
        "content": {"application/yaml": {"schema": schema}, JSON: {"schema": schema}},
    }


def refused(refusal: Refusal, errors: Schema) -> Schema:
    return {
        "description": refusal.description,
        "headers": headers(ALWAYS | refusal.headers),
        "content": {JSON: {"schema": refusal.schema(errors), "examples": refusal.examples}},
    }


NOT_MODIFIED: Schema = {
    "description": "What has the tag in `If-None-Match` is still the answer.",
    "headers": headers(ALWAYS | ETAG),
}

TOO_LONG: Schema = {
    "description": "The address has more than 8190 bytes. The web server says so by itself.",
    "content": {
        "text/html": {"schema": {"type": "string"}, "example": "Request Line is too large"}
    },
}
