"""How the web process serves: `gunicorn config.wsgi --config python:config.gunicorn`."""

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

# Threads, so that a slow client holds a thread and not a process. One process uses one core at a
# time; two, so that one serves while the other starts anew. Each thread keeps a connection to the
# database: eight processes leave it enough for the workers, operators and analysts.
worker_class = "gthread"
workers = max(2, min(CORES, MOST_WORKERS))
threads = 4

# Longer than the proxy keeps a connection that is idle, so that it never sends into a closed one.
keepalive = 130

timeout = 30
graceful_timeout = 20

# Against leaks: minutes of the highest load, not seconds.
max_requests = 500_000
max_requests_jitter = 50_000

# The most there is: 200 subscriptions by external_id make a long address.
limit_request_line = 8190

control_socket_disable = True

# By default a header SCRIPT_NAME or PATH_INFO replaces the path that the proxy has looked at.
forwarder_headers = ""


class Lines(Logger):
    """Gunicorn's own messages, in the form of all others."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        formatter = logs.formatter(is_readable=environment.flag("DJANGO_DEBUG"))
        for handler in self.error_log.handlers:
            handler.setFormatter(formatter)


logger_class = Lines


def on_starting(server: Any) -> None:
    """Make the place where the processes count requests, for /metrics to add up."""
    server.counts = tempfile.mkdtemp(prefix="usage-metrics-")
    os.environ.update(PROMETHEUS_MULTIPROC_DIR=server.counts)


def pre_fork(server: Any, worker: Any) -> None:
    """Give the process the lowest number that no living one has.

    Counts are kept in a file for each number, not for each process: a process that takes the
    place of another goes on counting where that one stopped, and there are never more files than
    processes at once.
    """
    taken = {sibling.number for sibling in server.WORKERS.values()}
    worker.number = next(number for number in count() if number not in taken)


def post_fork(server: Any, worker: Any) -> None:
    """Before the application makes its counters."""
    from prometheus_client import values

    values.ValueClass = values.MultiProcessValue(lambda: worker.number)


def post_request(worker: Any, request: Any) -> None:
    """Forget the name of the request, so that no later line of the thread carries it.

    Only here is the response sent: a CSV is still made after the middleware has ended.
    """
    clear_contextvars()


def on_exit(server: Any) -> None:
    """Remove the counts: a new server counts from zero."""
    shutil.rmtree(server.counts, ignore_errors=True)
