"""Responses in the schema: bodies, examples and headers."""

from collections.abc import Callable, Mapping, Sequence

from usage.api import shapes
from usage.api.responses import HEADERS
from usage.api.schema.hints import example_of
from usage.api.schema.refusals import Refusal
from usage.lists.bounds import Schema

TAG = 'W/"3ff0ca2b33ac71aadcdcdd42976f4fbd"'
JSON = "application/json"

ALWAYS = {name: f"`{HEADERS[name]}`" for name in ("Cache-Control", "Vary")}
ETAG = {"ETag": "Identifies this response. Absent if the rows are live or may change at any time."}
CSV_HEADERS = {
    "Content-Disposition": "The name of the file.",
    "Usage-As-Of": "`as_of` of the page.",
    "Usage-Live": "`live` of the page.",
    "Usage-Time-Zone": "`time_zone` of the page.",
    "Usage-Currency": "`currency` of the page.",
}
RUN_HEADERS = {"Location": "The path of the refresh."}

# Fields of an example that differ from the examples of its parts.
READ_NOW = {"live": True, "from_date": None, "to_date": None}
EXAMPLES: dict[type, Schema] = {
    shapes.SubscriptionsPage: READ_NOW,
    shapes.UsageRecordsPage: READ_NOW | {"from_date": "2026-11-24", "to_date": "2026-11-24"},
}
QUEUED: Schema = {
    "status": "queued",
    **dict.fromkeys(["finished_at", "as_of", "open_rows", "rows_changed", "sealed_before"]),
    "phases": {},
}

Named = Callable[[type], Schema]


def headers(always: Mapping[str, str], sometimes: Mapping[str, str] | None = None) -> Schema:
    """Return the headers that a response always has, and those that it has sometimes."""
    described = [(name, text, True) for name, text in always.items()]
    described += [(name, text, False) for name, text in (sometimes or {}).items()]
    return {
        name: {"description": text, "required": required, "schema": {"type": "string"}}
        for name, text, required in described
    }


def one(shape: type, named: Named, *, has_tag: bool = False) -> Schema:
    """Return the response whose body is one object of this shape."""
    return {
        "description": str(shape.__doc__),
        "headers": headers(ALWAYS, ETAG if has_tag else None),
        "content": {
            JSON: {
                "schema": named(shape),
                "example": example_of(shape) | EXAMPLES.get(shape, {}),
            }
        },
    }


def csv(columns: Sequence[str], *, has_tag: bool) -> Schema:
    """Return the response with every row as CSV."""
    return {
        "description": f"Every row, with the columns {', '.join(columns)}.",
        "headers": headers(ALWAYS | CSV_HEADERS, ETAG if has_tag else None),
        "content": {
            "text/csv": {"schema": {"type": "string"}, "example": ",".join(columns) + "\r\n"}
        },
    }


def accepted(shape: type, named: Named) -> Schema:
    """Return the response with a refresh that waits for a worker."""
    response = one(shape, named)
    response["content"][JSON]["example"] |= QUEUED
    return response | {"headers": headers(ALWAYS | RUN_HEADERS)}


def description(named: Named) -> Schema:
    """Return the response with this description."""
    response = one(shapes.OpenApiDocument, named)
    content = response["content"][JSON]
    return response | {"content": {JSON: content, "application/yaml": content}}


def refused(refusal: Refusal, error: Schema) -> Schema:
    """Return the response with an error."""
    codes = ", ".join(f"`{code}`" for code in refusal.codes)
    return {
        "description": f"{refusal.description} Codes: {codes}.",
        "headers": headers(ALWAYS | refusal.headers),
        "content": {JSON: {"schema": error, "examples": refusal.examples}},
    }


NOT_MODIFIED: Schema = {
    "description": "The stored response with the tag in `If-None-Match` is still current.",
    "headers": headers(ALWAYS | ETAG),
}
