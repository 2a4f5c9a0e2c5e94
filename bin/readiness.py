"""Probes of the processes that bin/serve starts: the web server and the worker."""

import http.client
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bin import processes, spawn
from bin.broker import ADDRESS

TIMEOUT_SECONDS = 120
QUERY_PATH = "/api/v1/usage/over-limit/?price_limit=10"


def web_is_ready(port: int, token: str) -> bool:
    """Return whether the API answers the request that bin/serve prints."""
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=10)
    try:
        connection.request("GET", QUERY_PATH, headers={"Authorization": f"Token {token}"})
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def worker_is_ready(name: str, environment: Mapping[str, str], root: Path) -> bool:
    """Return whether the worker of this name answers a ping through the broker."""
    command = ["celery", "-A", "worker.app", "inspect", "ping", "-d", name, "-t", "2"]
    ping = spawn.spawn(
        processes.under(sys.executable, command),
        directory=root,
        environment=environment,
        output=subprocess.DEVNULL,
    )
    return spawn.run_to_end(ping) == 0
