"""How the web process serves: `gunicorn config.wsgi --config python:config.gunicorn`."""

import os

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
