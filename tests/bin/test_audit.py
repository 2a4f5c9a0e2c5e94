"""The audit of the pinned packages: by the real pip-audit, against a database of our own."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from bin import audit
from bin.broker import free_port


class Advisories(BaseHTTPRequestHandler):
    """Answers as OSV does: whatever is asked about, gunicorn alone is vulnerable."""

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found: dict[str, Any] = {}
        if question["package"]["name"] == "gunicorn":
            event = [{"introduced": "0"}, {"fixed": "99.1"}]
            package = {"name": "gunicorn", "ecosystem": "PyPI"}
            affected = [{"package": package, "ranges": [{"type": "ECOSYSTEM", "events": event}]}]
            found = {
                "vulns": [
                    {"id": "OF-A-TEST-1", "modified": "2026-01-01T00:00:00Z", "affected": affected}
                ]
            }
        answer = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the test says what is wrong."""


@pytest.fixture
def advisories() -> Iterator[str]:
    """The address of a database of vulnerabilities."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Advisories)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def audited(address: str, cache: Path) -> tuple[bool, str]:
    return audit.audit(
        ["--vulnerability-service", "osv", "--osv-url", address, "--cache-dir", str(cache)]
    )


def test_a_known_vulnerability_fails_the_check(advisories: str, tmp_path: Path) -> None:
    """Fails when the answer of pip-audit isn't read."""
    is_well, told = audited(advisories, tmp_path)
    assert not is_well
    assert "gunicorn" in told
    assert told.endswith("OF-A-TEST-1, mended in 99.1")


def test_an_audit_that_could_not_be_made_says_so_and_fails_nothing(tmp_path: Path) -> None:
    """Fails when silence is taken for a clean audit."""
    is_well, told = audited(f"http://127.0.0.1:{free_port()}/", tmp_path)
    assert is_well
    assert told.startswith("No audit was made: ")


def test_packages_that_nobody_knows_are_not_called_audited() -> None:
    unknown = {"name": "a", "skip_reason": "not found"}
    known = {"name": "b", "version": "1", "vulns": []}
    assert audit.verdict([unknown])[1].startswith("No audit was made: ")
    assert audit.verdict([unknown, known]) == (
        True,
        "1 packages audited, no vulnerability is known. Not audited: a.",
    )
