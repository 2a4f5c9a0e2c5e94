"""The real web server, gunicorn with its configuration."""

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
    """Gunicorn, with temporary files in `place`; `environment` adds variables."""

    def __init__(self, place: Path, **environment: str) -> None:
        self.place = place
        self.log = place / "log"
        # Gunicorn inherits a listening socket, so that no other test can take the port first.
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
        wait_until(self.responds, seconds=60, what="gunicorn to respond")

    def get(self, path: str, *, method: str = "GET", **headers: str) -> tuple[int, bytes, Any]:
        """Send a request on a new connection, so that any of the processes may get it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read(), response.headers
        finally:
            connection.close()

    def responds(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            # As from a proxy that ends TLS: without the header Django redirects to https.
            https = {"X-Forwarded-Proto": "https"}
            return self.get("/api/v1/nothing/", **https)[0] == 404
        except OSError:
            return False

    def live_requests(self) -> float:
        """Return the number of requests to /health/live, from /metrics of any process."""
        status, body, _ = self.get("/metrics", Authorization=f"Bearer {TOKEN}")
        assert status == 200, body
        return value(samples(body.decode()), "usage_http_requests_total", **LIVE)

    def was_renewed(self) -> bool:
        """Return whether every worker has ended and a new one has begun for each."""
        log = self.log.read_text()
        workers = gunicorn.workers
        return (log.count("Worker exiting"), log.count("Booting")) == (workers, 2 * workers)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@contextmanager
def serving(place: Path, **environment: str) -> Iterator[Server]:
    """Run the web server until the end of the block."""
    server = Server(place, **environment)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait(40)
