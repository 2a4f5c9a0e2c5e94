"""The types of errors, from which the published schema is made."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, TypedDict

from usage.lists.bounds import Schema


class ErrorType(StrEnum):
    """The cause of an error: a parameter, another part of the request, or the server."""

    VALIDATION_ERROR = "validation_error"
    CLIENT_ERROR = "client_error"
    SERVER_ERROR = "server_error"


class ErrorCode(StrEnum):
    """The kind of a fault, for programs. docs/api.md says what to do about each."""

    AUTHENTICATION_FAILED = "authentication_failed"
    BLANK = "blank"
    BROKER_UNAVAILABLE = "broker_unavailable"
    DATABASE_BUSY = "database_busy"
    DATABASE_UNAVAILABLE = "database_unavailable"
    ERROR = "error"
    HOST_NOT_ALLOWED = "host_not_allowed"
    HTTP_VERSION = "http_version"
    INVALID = "invalid"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_ACCEPTABLE = "not_acceptable"
    NOT_AUTHENTICATED = "not_authenticated"
    NOT_FOUND = "not_found"
    OTHER_QUERY = "other_query"
    PARSE_ERROR = "parse_error"
    PERMISSION_DENIED = "permission_denied"
    QUERY_TIMEOUT = "query_timeout"
    RECORDS_DROPPED = "records_dropped"
    REFRESH_IN_PROGRESS = "refresh_in_progress"
    REPEATED = "repeated"
    REQUIRED = "required"
    SUM_TOO_LARGE = "sum_too_large"
    THROTTLED = "throttled"
    TOO_MANY = "too_many"
    TOO_MANY_DOWNLOADS = "too_many_downloads"
    TOTALS_NOT_FILLED = "totals_not_filled"
    TOTALS_TOO_OLD = "totals_too_old"
    UNKNOWN = "unknown"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"


_ATTR: Schema = {"description": "The parameter with the fault; null if it is in no parameter."}


class Fault(TypedDict):
    """One fault of the request or of the server."""

    code: Annotated[str, {"enum": ErrorCode}]
    detail: Annotated[str, {"description": "The fault and what to do about it, for people."}]
    attr: Annotated[str | None, _ATTR]


class Error(TypedDict):
    """The body of an error. A 400 lists every fault of the request."""

    type: Annotated[str, {"enum": ErrorType}]
    errors: Annotated[Sequence[Fault], {"minItems": 1}]
