"""Middleware around every request: its X-Request-ID, its line in the log, its metrics."""

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

# Accepted values of X-Request-ID: they can't break a line of the log or fill a disk.
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}
# Probes come every few seconds, so only those that fail are logged. All are counted.
PROBES = {"health/live", "health/ready", "metrics"}

logger = logging.getLogger(__name__)


class Observed:
    """The outermost middleware. X-Request-ID identifies the request in the log and the response."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        header = request.META.get("HTTP_X_REQUEST_ID", "")
        request_id = header if REQUEST_ID.fullmatch(header) else uuid4().hex
        # A CSV is made after this call returns and logs with these variables, so they are cleared
        # here, before the next request, and by config/gunicorn.py.
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
    # The label is the pattern of the path: paths themselves would make an unlimited number of
    # metrics.
    endpoint = match.route if match else "none"
    method = request.method if request.method in METHODS else "other"
    REQUESTS.labels(endpoint, method, status).inc()
    REQUEST_SECONDS.labels(endpoint).observe(seconds)
    if endpoint in PROBES and status < 400:
        return
    # The log leaves out the query string, which names customers.
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
