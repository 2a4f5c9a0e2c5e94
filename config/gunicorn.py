"""Settings of Gunicorn: `gunicorn config.wsgi --config python:config.gunicorn`."""

import os
import shutil
import tempfile
from itertools import count
from typing import Any

from gunicorn.glogging import Logger  # type: ignore[import-untyped]
from structlog.contextvars import clear_contextvars

from config import environment, logs

CORES = len(os.sched_getaffinity(0))
MOST_WORKERS = 8

# A slow client occupies a thread, not a process. A process uses one core at a time. There are at
# least two processes, so that one serves while the other restarts. There are at most eight, because
# each thread keeps a connection to the database, and workers, operators and analysts need some too.
worker_class = "gthread"
workers = max(2, min(CORES, MOST_WORKERS))
threads = 4

# The proxy must close an idle connection first, or it sends a request into a closed one.
keepalive = 130

timeout = 30
graceful_timeout = 20

# A restart bounds leaks of memory. At the highest load this many requests take minutes.
max_requests = 500_000
max_requests_jitter = 50_000

# Gunicorn's maximum: 200 subscriptions by external_id make a long address.
limit_request_line = 8190

control_socket_disable = True

# By default a header SCRIPT_NAME or PATH_INFO replaces the path that the proxy checked.
forwarder_headers = ""


class Lines(Logger):
    """A logger that writes Gunicorn's own messages in the format of all others."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        formatter = logs.formatter(is_readable=environment.flag("DJANGO_DEBUG"))
        for handler in self.error_log.handlers:
            handler.setFormatter(formatter)


logger_class = Lines


def on_starting(server: Any) -> None:
    """Make the directory for the request counts of the processes, which /metrics adds up."""
    server.counts = tempfile.mkdtemp(prefix="usage-metrics-")
    os.environ.update(PROMETHEUS_MULTIPROC_DIR=server.counts)


def pre_fork(server: Any, worker: Any) -> None:
    """Give the process the lowest number that no live process has.

    Each number has a file of counts. A process that replaces another continues its counts, and
    there are never more files than processes at once.
    """
    taken = {sibling.number for sibling in server.WORKERS.values()}
    worker.number = next(number for number in count() if number not in taken)


def post_fork(server: Any, worker: Any) -> None:
    """Set the file of the counts, before the application makes its counters."""
    from prometheus_client import values

    values.ValueClass = values.MultiProcessValue(lambda: worker.number)


def post_request(worker: Any, request: Any) -> None:
    """Clear the request id, so that no later log line of the thread has it.

    The middleware ends too early for this: a CSV response is computed while it is sent.
    """
    clear_contextvars()


def on_exit(server: Any) -> None:
    """Remove the counts; a new server counts from zero."""
    shutil.rmtree(server.counts, ignore_errors=True)
