"""Metrics for Prometheus: requests, which each process counts, and the state of the totals.

A request must have `Authorization: Bearer` with USAGE_METRICS_TOKEN. Tokens of the API are in the
database, so with them a monitor could not read that the database is away.
"""

import os

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from usage.authorization import credentials
from usage.monitoring.totals import TotalsCollector

REQUESTS = Counter(
    "usage_http_requests",
    "Requests answered.",
    ["endpoint", "method", "status"],
    registry=None,
)
REQUEST_SECONDS = Histogram(
    "usage_http_request_seconds",
    "Seconds until a response was ready to be sent; for a CSV, until its first lines were.",
    ["endpoint"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15),
    registry=None,
)


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """Respond with every metric in the text format of Prometheus; 401 without the token."""
    if not _may_read(request):
        return HttpResponse(
            "Send Authorization: Bearer with the value of USAGE_METRICS_TOKEN.\n",
            status=401,
            content_type="text/plain",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return HttpResponse(generate_latest(_registry()), content_type=CONTENT_TYPE_LATEST)


def _may_read(request: HttpRequest) -> bool:
    token = settings.USAGE_METRICS_TOKEN
    scheme, words = credentials(request)
    if token is None or scheme != "bearer":
        return False
    return constant_time_compare(" ".join(words), token)


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(TotalsCollector())
    # With this variable, which config/gunicorn.py sets, each process counts in a file, and every
    # process reads all of these files.
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)
    else:
        registry.register(REQUESTS)
        registry.register(REQUEST_SECONDS)
    return registry
