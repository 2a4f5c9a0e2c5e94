"""Answers as the schema describes them: bodies, examples and headers."""

from collections.abc import Callable, Mapping, Sequence

from usage.api import shapes
from usage.api.bounds import Schema
from usage.api.responses import HEADERS
from usage.api.schema.hints import example_of
from usage.api.schema.refusals import Refusal

TAG = 'W/"3ff0ca2b33ac71aadcdcdd42976f4fbd"'
JSON = "application/json"

ALWAYS = {name: f"`{HEADERS[name]}`" for name in ("Cache-Control", "Vary")}
ETAG = {"ETag": "Names this answer. Not where the rows are live, or may change at any time."}
OF_CSV = {
    "Content-Disposition": "The name of the file.",
    "Usage-As-Of": "`as_of` of the page.",
    "Usage-Live": "`live` of the page.",
    "Usage-Time-Zone": "`time_zone` of the page.",
    "Usage-Currency": "`currency` of the page.",
}
OF_RUN = {"Location": "The path of the refresh."}

# Where an example differs from that of its parts.
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
    """Those that an answer has, and those that only some answers have."""
    told = [(name, text, True) for name, text in always.items()]
    told += [(name, text, False) for name, text in (sometimes or {}).items()]
    return {
        name: {"description": text, "required": required, "schema": {"type": "string"}}
        for name, text, required in told
    }


def one(shape: type, named: Named, *, has_tag: bool = False) -> Schema:
    """An answer that is one such thing."""
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
    """Every row as CSV."""
    return {
        "description": f"Every row, with the columns {', '.join(columns)}.",
        "headers": headers(ALWAYS | OF_CSV, ETAG if has_tag else None),
        "content": {
            "text/csv": {"schema": {"type": "string"}, "example": ",".join(columns) + "\r\n"}
        },
    }


def accepted(shape: type, named: Named) -> Schema:
    """The answer that is a refresh which waits for a worker."""
    answer = one(shape, named)
    answer["content"][JSON]["example"] |= QUEUED
    return answer | {"headers": headers(ALWAYS | OF_RUN)}


def description(named: Named) -> Schema:
    """The answer that is this description."""
    answer = one(shapes.OpenApiDocument, named)
    content = answer["content"][JSON]
    return answer | {"content": {JSON: content, "application/yaml": content}}


def refused(refusal: Refusal, error: Schema) -> Schema:
    codes = ", ".join(f"`{code}`" for code in refusal.codes)
    return {
        "description": f"{refusal.description} Codes: {codes}.",
        "headers": headers(ALWAYS | refusal.headers),
        "content": {JSON: {"schema": error, "examples": refusal.examples}},
    }


NOT_MODIFIED: Schema = {
    "description": "What has the tag in `If-None-Match` is still the answer.",
    "headers": headers(ALWAYS | ETAG),
}
