"""The web server as it runs: what its processes count together, and what they log."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bin import processes
from bin.broker import free_port
from config import gunicorn
from tests.connections import wait_until
from tests.processes import ROOT, database_url
from tests.usage.operations.scraping import TOKEN, samples, value

LIVE = {"endpoint": "health/live", "method": "GET", "status": "200"}


class Server:
    """Gunicorn with its own place for temporary files."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.port = free_port(18_000)
        self.log = place / "log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                processes.under(sys.executable, processes.web(f"127.0.0.1:{self.port}")),
                cwd=ROOT,
                env={
                    **os.environ,
                    "DATABASE_URL": database_url(),
                    "USAGE_METRICS_TOKEN": TOKEN,
                    "DJANGO_DEBUG": "0",
                    "TMPDIR": str(place),
                },
                stdout=output,
                stderr=output,
            )
        wait_until(self.answers, seconds=60, what="gunicorn to answer")

    def get(self, path: str, **headers: str) -> tuple[int, bytes, Any]:
        """Each on a connection of its own, so that any process may be the one to answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read(), response.headers
        finally:
            connection.close()

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.get("/api/v1/nothing/")[0] == 404
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


@pytest.fixture
def server(state: None, tmp_path: Path) -> Iterator[Server]:
    started = Server(tmp_path)
    try:
        yield started
    finally:
        started.process.terminate()
        started.process.wait(40)
    assert list(tmp_path.glob("usage-metrics-*")) == [], "the counts are removed at the end"


def test_every_process_tells_what_all_of_them_counted(server: Server) -> None:
    """Also those that have ended: a counter that goes back is a fault to Prometheus."""
    for _ in range(40):
        assert server.get("/health/live")[0] == 200
    assert {server.live_requests() for _ in range(10)} == {40}
    server.process.send_signal(signal.SIGHUP)
    wait_until(server.was_renewed, seconds=60, what="the processes to be replaced")
    for _ in range(20):
        assert server.get("/health/live")[0] == 200
    assert {server.live_requests() for _ in range(10)} == {60}
    # While they are replaced old and new ones count at once, each in its own file.
    counters = list(server.place.glob("usage-metrics-*/counter_*.db"))
    assert len(counters) <= 2 * gunicorn.workers


def test_each_line_of_the_log_is_an_object_and_names_its_request(server: Server) -> None:
    status, _, headers = server.get(
        "/api/v1/usage/totals/?external_id=0044-secret-number",
        **{"X-Request-ID": "from-the-proxy.1", "Authorization": "Token 0123456789abcdef"},
    )
    assert status == 401
    assert headers["X-Request-ID"] == "from-the-proxy.1"
    [line] = [line for line in server.lines() if line.get("request_id") == "from-the-proxy.1"]
    assert line["event"] == "request"
    assert (line["method"], line["status"]) == ("GET", 401)
    assert line["path"] == "/api/v1/usage/totals/"
    assert line["milliseconds"] > 0
    assert any(line["logger"] == "gunicorn.error" for line in server.lines())
    for secret in [
        "0123456789abcdef",
        "0044-secret-number",
        TOKEN,
        os.environ["DJANGO_SECRET_KEY"],
    ]:
        assert secret not in server.log.read_text()
