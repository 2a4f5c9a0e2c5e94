"""The running web server: request counts over all its processes, and its log."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import gunicorn
from tests.connections import wait_until
from tests.faults.raw_http import ask
from tests.usage.monitoring.scraping import TOKEN
from tests.web import Server, serving


@pytest.fixture
def server(state: None, tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as started:
        yield started
    assert list(tmp_path.glob("usage-metrics-*")) == [], "the counts are removed at the end"


def test_every_process_reports_the_count_of_all(server: Server) -> None:
    """Fails when the counts of ended processes are lost: counters of Prometheus must not fall."""
    for _ in range(40):
        assert server.get("/health/live")[0] == 200
    assert {server.live_requests() for _ in range(10)} == {40}
    server.process.send_signal(signal.SIGHUP)
    wait_until(server.was_renewed, seconds=60, what="new processes to replace the old ones")
    for _ in range(20):
        assert server.get("/health/live")[0] == 200
    assert {server.live_requests() for _ in range(10)} == {60}
    # During the change old and new processes count at the same time, each in its own file.
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


@pytest.mark.parametrize("path", ["/health/live", "/metrics", "/api/v1/subscriptions/"])
def test_a_header_cannot_replace_the_path(server: Server, path: str) -> None:
    """Fails when the server uses these CGI variables of a client, which a proxy may pass on."""
    for name in ["SCRIPT_NAME", "PATH_INFO"]:
        for value in ["/metrics", "/nothing", "x"]:
            assert server.get(path, **{name: value})[0] == server.get(path)[0]
    redirected = server.get("/api/v1/subscriptions", SCRIPT_NAME="/api")[2]["Location"]
    assert redirected == "/api/v1/subscriptions/"


def test_a_line_outside_a_request_names_none(server: Server) -> None:
    """Fails when a thread keeps the id of its last request: each one serves a good request before
    an invalid one."""
    for number in range(16 * gunicorn.workers * gunicorn.threads):
        server.get("/nothing/", **{"X-Request-ID": f"request-{number}"})
        assert ask(f"http://127.0.0.1:{server.port}", b"GET nonsense\r\n\r\n").status == 400
    outside = [line for line in server.lines() if line["logger"] == "gunicorn.error"]
    assert any(line["event"].startswith("Invalid request") for line in outside)
    assert [line for line in outside if "request_id" in line] == []
