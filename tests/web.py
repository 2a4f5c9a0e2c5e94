"""The web server as it runs."""

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bin import processes
from config import gunicorn
from tests.connections import wait_until
from tests.processes import ROOT, database_url
from tests.usage.monitoring.scraping import TOKEN, samples, value

LIVE = {"endpoint": "health/live", "method": "GET", "status": "200"}


class Server:
    """Gunicorn with its own place for temporary files; the environment is added to ours."""

    def __init__(self, place: Path, **environment: str) -> None:
        self.place = place
        self.log = place / "log"
        # The port is taken before it is told: no other test can get it in between.
        with socket.create_server(("127.0.0.1", 0)) as listener, self.log.open("wb") as output:
            self.port = listener.getsockname()[1]
            self.process = subprocess.Popen(
                processes.under(sys.executable, processes.web(f"fd://{listener.fileno()}")),
                cwd=ROOT,
                env={
                    **os.environ,
                    "DATABASE_URL": database_url(),
                    "USAGE_METRICS_TOKEN": TOKEN,
                    "DJANGO_DEBUG": "0",
                    "TMPDIR": str(place),
                    **environment,
                },
                stdout=output,
                stderr=output,
                pass_fds=[listener.fileno()],
            )
        wait_until(self.answers, seconds=60, what="gunicorn to answer")

    def get(self, path: str, *, method: str = "GET", **headers: str) -> tuple[int, bytes, Any]:
        """Each on a connection of its own, so that any process may be the one to answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read(), response.headers
        finally:
            connection.close()

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            # As a proxy that ends TLS, so that it is not sent on to https.
            https = {"X-Forwarded-Proto": "https"}
            return self.get("/api/v1/nothing/", **https)[0] == 404
        except OSError:
            return False

    def live_requests(self) -> float:
        """How often /health/live was asked, as whichever process answers counts it."""
        status, body, _ = self.get("/metrics", Authorization=f"Bearer {TOKEN}")
        assert status == 200, body
        return value(samples(body.decode()), "usage_http_requests_total", **LIVE)

    def was_renewed(self) -> bool:
        """Whether every process has ended and another one has begun."""
        said = self.log.read_text()
        workers = gunicorn.workers
        return (said.count("Worker exiting"), said.count("Booting")) == (workers, 2 * workers)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@contextmanager
def serving(place: Path, **environment: str) -> Iterator[Server]:
    """The web server until the end of the block."""
    server = Server(place, **environment)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait(40)
