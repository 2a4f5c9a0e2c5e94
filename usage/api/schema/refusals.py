"""Errors in the schema: each status, its codes and an example of each code."""

from dataclasses import dataclass, field
from typing import Any

from usage.api.error_types import Error, Fault
from usage.models import UsageType

RETRY_AFTER = {"Retry-After": "Seconds to wait before the next request."}


@dataclass(frozen=True)
class Refusal:
    """An error status, an example of each of its faults, and its headers."""

    name: str
    status: int
    description: str
    faults: tuple[Fault, ...]
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def codes(self) -> list[str]:
        return [fault["code"] for fault in self.faults]

    @property
    def examples(self) -> dict[str, Any]:
        """Return an example for each code."""
        return {fault["code"]: {"value": self._body(fault)} for fault in self.faults}

    def _body(self, fault: Fault) -> Error:
        if fault["attr"]:
            return {"type": "validation_error", "errors": [fault]}
        kind: Any = "client_error" if self.status < 500 else "server_error"
        return {"type": kind, "errors": [fault]}


def _fault(code: str, detail: str, attr: str | None = None) -> Fault:
    return {"code": code, "detail": detail, "attr": attr}


_UNREADABLE = (
    _fault("parse_error", "The request cannot be read. Send fewer or shorter parameters."),
    _fault(
        "host_not_allowed",
        "The header Host does not name this server. Use one of its names, or ask the operator to "
        "add this one to DJANGO_ALLOWED_HOSTS.",
    ),
)

_TYPES = " or ".join(UsageType.values)

BAD_QUERY = Refusal(
    "BadQuery",
    400,
    "The query has faults. All are listed, each with its parameter in `attr`.",
    (
        _fault("required", f"Missing. Give {_TYPES}.", "usage_type"),
        _fault("invalid", f"'12' is not allowed. Give {_TYPES}.", "usage_type"),
        _fault("blank", f"Empty. Give {_TYPES}.", "usage_type"),
        _fault("repeated", "Given 2 times where one is expected. Give true or false.", "live"),
        _fault("too_many", "201 values. Give external ids of at most 100 ...", "external_id"),
        _fault("unknown", "Unknown parameter. Allowed are cursor, external_id, ...", "colour"),
        _fault("other_query", "The cursor belongs to another query. Repeat ...", "cursor"),
        _fault(
            "http_version",
            "A CSV is sent in chunks, which HTTP/1.0 does not have. Use HTTP/1.1.",
        ),
        *_UNREADABLE,
    ),
)
BAD_REQUEST = Refusal(
    "BadRequest",
    400,
    "The endpoint takes no parameter and no field, or the request cannot be read.",
    (_fault("unknown", "Unknown parameter. Send none here.", "colour"), *_UNREADABLE),
)
NOT_JSON = Refusal(
    "NotJson",
    415,
    "The body is not JSON.",
    (_fault("unsupported_media_type", 'Unsupported media type "text/plain" in request.'),),
)
OTHER_METHOD = Refusal(
    "OtherMethod",
    405,
    "The path does not allow the method. `Allow` lists the methods that it allows.",
    (_fault("method_not_allowed", 'Method "DELETE" not allowed.'),),
    headers={"Allow": "The methods of the path."},
)
FAILED = Refusal(
    "Failed",
    500,
    "The server failed.",
    (_fault("error", "The server failed. Its log says why."),),
)
WHO_ARE_YOU = Refusal(
    "WhoAreYou",
    401,
    "The request has no token or session, or an invalid one.",
    (
        _fault("not_authenticated", "Authentication credentials were not provided."),
        _fault("authentication_failed", "Invalid token."),
    ),
    headers={"WWW-Authenticate": "`Bearer`"},
)
NOT_ALLOWED = Refusal(
    "NotAllowed",
    403,
    "The token or the person lacks the scope that `detail` names, or a session its CSRF token.",
    (_fault("permission_denied", "This needs the scope usage:read or usage:read:own."),),
)
NO_SUCH_RUN = Refusal(
    "NoSuchRun",
    404,
    "There is no such refresh.",
    (_fault("not_found", "There is no refresh 7. Refreshes are kept for 90 days."),),
)
NOT_ACCEPTABLE = Refusal(
    "NotAcceptable",
    406,
    "`Accept` allows no format of this endpoint.",
    (_fault("not_acceptable", "Could not satisfy the request Accept header."),),
)
IN_PROGRESS = Refusal(
    "InProgress",
    409,
    "A refresh is queued or running already.",
    (_fault("refresh_in_progress", "Refresh 1042 is running already. Wait for it to end."),),
    headers={"Location": "The path of that refresh."},
)
SUM_TOO_LARGE = Refusal(
    "SumTooLarge",
    409,
    "A live total is larger than 2^63 - 1.",
    (
        _fault(
            "sum_too_large",
            "Usage adds up to more than 2^63 - 1: data of subscription 7 on 2026-11-15. ...",
        ),
    ),
)
RECORDS_DROPPED = Refusal(
    "RecordsDropped",
    410,
    "The raw records of the day are dropped. Its daily totals stay.",
    (
        _fault(
            "records_dropped",
            "The raw records of 2026-10-20 are dropped: 2026-10-21 is the first day whose records "
            "are kept. The daily total of the day stays.",
        ),
    ),
)
TOO_OFTEN = Refusal(
    "TooOften",
    429,
    "The token or the address has sent too many requests in this minute.",
    (_fault("throttled", "Request was throttled. Expected available in 17 seconds."),),
    headers=RETRY_AFTER,
)
_AWAY = (
    _fault(
        "database_unavailable",
        "The database cannot be reached. Try again in a few seconds; if it stays away, tell the "
        "operator.",
    ),
    _fault(
        "database_busy",
        "The totals are being changed by maintenance. Try again in a few seconds.",
    ),
    _fault("query_timeout", "The query took too long. Narrow it: ..."),
)
_NOT_NOW = "The response is temporarily unavailable."
NOT_NOW = Refusal("NotNow", 503, _NOT_NOW, _AWAY, headers=RETRY_AFTER)
NO_TOTALS_NOW = Refusal(
    "NoTotalsNow",
    503,
    _NOT_NOW,
    (
        _fault(
            "totals_too_old",
            "The totals are 42 seconds old, max_staleness is 30. Ask again after the next "
            "refresh, allow older totals, or name subscriptions (subscription_id, external_id) "
            "for a live answer.",
        ),
        _fault("totals_not_filled", "The totals were never filled. Run: manage.py refresh_usage"),
        _fault(
            "too_many_downloads",
            "The limit of CSV downloads at one time is reached. Try again when one has ended.",
        ),
        *_AWAY,
    ),
    headers=RETRY_AFTER,
)
NO_WORKER_NOW = Refusal(
    "NoWorkerNow",
    503,
    "The refresh is temporarily unavailable.",
    (
        _fault(
            "broker_unavailable",
            "The broker cannot be reached, so no worker received the request. Try again in a few "
            "seconds; if it stays away, tell the operator.",
        ),
        *_AWAY,
    ),
    headers=RETRY_AFTER,
)
OPEN_TO_ALL = (OTHER_METHOD, NOT_ACCEPTABLE, TOO_OFTEN, FAILED)
ANYWHERE = (WHO_ARE_YOU, NOT_ALLOWED, *OPEN_TO_ALL)
