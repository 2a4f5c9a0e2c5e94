"""One handler turns every error into a status and one JSON shape, never a traceback.

{"type": "validation_error" | "client_error" | "server_error",
 "errors": [{"code", "detail", "attr": the parameter or null}]}
"""

import logging
from typing import Any

from django.conf import settings
from django.core.exceptions import (
    BadRequest,
    DisallowedHost,
    SuspiciousOperation,
    ValidationError,
)
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, JsonResponse
from django.urls import get_resolver, reverse
from drf_standardized_errors.handler import ExceptionHandler
from rest_framework.exceptions import APIException, ParseError
from rest_framework.exceptions import ValidationError as InvalidRequest
from rest_framework.fields import get_error_detail
from rest_framework.response import Response

from usage.api import responses
from usage.database.errors import (
    LOCK_NOT_AVAILABLE,
    NOT_POPULATED,
    QUERY_CANCELED,
    is_server_error,
    sqlstate,
)
from usage.database.routing import REPLAY_CONFLICTS
from usage.errors import (
    BrokerAwayError,
    RecordsDroppedError,
    RefreshInProgressError,
    StaleTotalsError,
    SumTooLargeError,
    TotalsNotFilledError,
)

logger = logging.getLogger(__name__)


class Unavailable(APIException):
    """The response is temporarily unavailable; `wait` is Retry-After, in seconds."""

    status_code = 503

    def __init__(self, detail: str, *, code: str, wait: int) -> None:
        super().__init__(detail, code=code)
        self.wait = wait


class InProgress(APIException):
    """The requested action is in progress already, at `location`."""

    status_code = 409

    def __init__(self, detail: str, *, code: str, location: str) -> None:
        super().__init__(detail, code=code)
        self.location = location


class NotAddable(APIException):
    """A requested sum is larger than a total can hold."""

    status_code = 409


class Gone(APIException):
    """The requested rows have been dropped and will not return."""

    status_code = 410


def handle(error: Exception, context: Any) -> Response | None:
    """Return the response to an error, as the EXCEPTION_HANDLER of REST_FRAMEWORK."""
    return Handler(error, context).run()


class Handler(ExceptionHandler):
    """The handler of errors of usage and of the database, besides those of Django and DRF."""

    def convert_known_exceptions(self, exc: Exception) -> Exception:
        match exc:
            case ValidationError():
                return InvalidRequest(get_error_detail(exc))
            case TotalsNotFilledError():
                return _totals_not_filled(str(exc))
            case StaleTotalsError():
                wait = settings.USAGE_REFRESH_SECONDS
                return Unavailable(str(exc), code="totals_too_old", wait=wait)
            case SumTooLargeError():
                return NotAddable(str(exc), code="sum_too_large")
            case RecordsDroppedError():
                return Gone(str(exc), code="records_dropped")
            case RefreshInProgressError():
                location = reverse("api:refresh", args=[exc.run.pk])
                return InProgress(str(exc), code="refresh_in_progress", location=location)
            case BrokerAwayError():
                return Unavailable(
                    "The broker cannot be reached, so no worker received the request. Try again in "
                    "a few seconds; if it stays away, tell the operator.",
                    code="broker_unavailable",
                    wait=5,
                )
            case DatabaseError() | InterfaceError() if is_server_error(exc):
                return _database_fault(exc)
            case SuspiciousOperation() | BadRequest():
                return ParseError(*_unreadable(exc))
            case _:
                return super().convert_known_exceptions(exc)

    def get_headers(self, exc: APIException) -> dict[str, str]:
        headers: dict[str, str] = super().get_headers(exc)
        if isinstance(exc, InProgress):
            headers["Location"] = exc.location
        return headers

    def report_exception(self, exc: APIException, response: Response) -> None:
        """Log an unavailable service as one line, and an error in this code as a traceback."""
        if isinstance(exc, Unavailable):
            logger.warning("%s: %s", exc.get_codes(), str(self.exc).strip())
        else:
            super().report_exception(exc, response)


def _totals_not_filled(detail: str) -> Unavailable:
    return Unavailable(detail, code="totals_not_filled", wait=settings.USAGE_REFRESH_SECONDS)


def _database_fault(error: Exception) -> Unavailable:
    match sqlstate(error):
        case code if code == NOT_POPULATED:
            return _totals_not_filled(str(TotalsNotFilledError()))
        case code if code == QUERY_CANCELED:
            detail = (
                "The query took too long. Narrow it: fewer days (from_date, to_date, month), named "
                "subscriptions (subscription_id, external_id) or one usage_type."
            )
            return Unavailable(detail, code="query_timeout", wait=30)
        case code if code == LOCK_NOT_AVAILABLE:
            detail = "The totals are being changed by maintenance. Try again in a few seconds."
            return Unavailable(detail, code="database_busy", wait=5)
        case code if code in REPLAY_CONFLICTS:
            detail = (
                "The replica ended the query because it had to replay changes, and no other "
                "server could run it. Try again."
            )
            return Unavailable(detail, code="database_busy", wait=5)
        case code if code and code.startswith("53"):
            detail = (
                "The database is short of connections, memory or disk. Try again in a minute; if "
                "it stays so, tell the operator."
            )
            return Unavailable(detail, code="database_busy", wait=60)
        case _:
            detail = (
                "The database cannot be reached. Try again in a few seconds; if it stays away, "
                "tell the operator."
            )
            return Unavailable(detail, code="database_unavailable", wait=5)


def _unreadable(error: Exception) -> tuple[str, str]:
    """Return the detail and the code of a request that Django refuses to read."""
    if isinstance(error, DisallowedHost):
        detail = (
            "The header Host does not name this server. Use one of its names, or ask the operator "
            "to add this one to DJANGO_ALLOWED_HOSTS."
        )
        return detail, "host_not_allowed"
    return "The request cannot be read. Send fewer or shorter parameters.", "parse_error"


def bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:
    detail, code = _unreadable(exception)
    return _plain_response(400, code, detail)


def permission_denied(request: HttpRequest, exception: Exception) -> JsonResponse:
    return _plain_response(403, "permission_denied", "This is not allowed.")


def not_found(request: HttpRequest, exception: Exception) -> JsonResponse:
    root, resolver = get_resolver().namespace_dict["api"]
    paths = ", ".join(f"/{root}{pattern.pattern}" for pattern in resolver.url_patterns)
    detail = f"Nothing is at {request.path[:100]}. The endpoints of the API are {paths}."
    return _plain_response(404, "not_found", detail)


def server_error(request: HttpRequest) -> JsonResponse:
    return _plain_response(500, "error", "The server failed. Its log says why.")


def _plain_response(status: int, code: str, detail: str) -> JsonResponse:
    kind = "client_error" if status < 500 else "server_error"
    errors = [{"code": code, "detail": detail, "attr": None}]
    return JsonResponse({"type": kind, "errors": errors}, status=status, headers=responses.HEADERS)
