"""Whether the processes that were started also answer."""

import http.client
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bin import processes, spawn
from bin.broker import ADDRESS

PATIENCE_SECONDS = 120
QUESTION = "/api/v1/usage/over-limit/?price_limit=10"


def web_answers(port: int, token: str) -> bool:
    """Whether the API answers the holder of the token what a new user is told to ask."""
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=10)
    try:
        connection.request("GET", QUESTION, headers={"Authorization": f"Token {token}"})
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def worker_answers(name: str, environment: Mapping[str, str], root: Path) -> bool:
    """Whether the worker of this name answers a ping through the broker."""
    ping = ["celery", "-A", "worker.app", "inspect", "ping", "-d", name, "-t", "2"]
    asking = spawn.spawn(
        processes.under(sys.executable, ping),
        directory=root,
        environment=environment,
        output=subprocess.DEVNULL,
    )
    return spawn.run_to_end(asking) == 0
