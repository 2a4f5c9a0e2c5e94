"""Around every request: a name for it, one line in the log, and its place in the counts."""

import logging
import re
import time
from collections.abc import Callable
from uuid import uuid4

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from structlog.contextvars import bind_contextvars, clear_contextvars

from usage.addresses import client_address
from usage.monitoring import proxies
from usage.monitoring.metrics import REQUEST_SECONDS, REQUESTS

# What a proxy or a client may call a request: nothing that could break a line or fill a disk.
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}
# Asked every few seconds: they are counted, and in the log when they fail.
PROBES = {"health/live", "health/ready", "metrics"}

logger = logging.getLogger(__name__)


class Observed:
    """The outermost middleware. X-Request-ID names the request, also in the answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        given = request.META.get("HTTP_X_REQUEST_ID", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid4().hex
        # A CSV is still being made after the end of this call: config/gunicorn.py clears them then.
        clear_contextvars()
        bind_contextvars(request_id=request_id)
        proxies.notice(request)
        began = time.perf_counter()
        response = self.get_response(request)
        seconds = time.perf_counter() - began
        response["X-Request-ID"] = request_id
        _note(request, response.status_code, seconds)
        return response


def _note(request: HttpRequest, status: int, seconds: float) -> None:
    match = request.resolver_match
    # The pattern of the path, never the path: its values would be metrics without end.
    endpoint = match.route if match else "none"
    method = request.method if request.method in METHODS else "other"
    REQUESTS.labels(endpoint, method, status).inc()
    REQUEST_SECONDS.labels(endpoint).observe(seconds)
    if endpoint in PROBES and status < 400:
        return
    # Without the query: it names customers.
    logger.info(
        "request",
        extra={
            "address": client_address(request),
            "method": method,
            "path": request.path[:200],
            "endpoint": endpoint,
            "status": status,
            "milliseconds": round(seconds * 1000, 1),
        },
    )
