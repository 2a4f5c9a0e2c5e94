"""The audit of the pinned packages: the real pip-audit with a database of the test."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from bin import audit
from bin.broker import free_port
from bin.lock import pins


class Advisories(BaseHTTPRequestHandler):
    """A service with the API of OSV, in which only gunicorn is vulnerable."""

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found: dict[str, Any] = {}
        if query["package"]["name"] == "gunicorn":
            event = [{"introduced": "0"}, {"fixed": "99.1"}]
            package = {"name": "gunicorn", "ecosystem": "PyPI"}
            affected = [{"package": package, "ranges": [{"type": "ECOSYSTEM", "events": event}]}]
            found = {
                "vulns": [
                    {"id": "OF-A-TEST-1", "modified": "2026-01-01T00:00:00Z", "affected": affected}
                ]
            }
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@pytest.fixture
def advisories() -> Iterator[str]:
    """The address of a database of vulnerabilities."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Advisories)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def options(address: str, cache: Path) -> list[str]:
    return ["--vulnerability-service", "osv", "--osv-url", address, "--cache-dir", str(cache)]


def test_a_known_vulnerability_fails_the_check(advisories: str, tmp_path: Path) -> None:
    """Fails when the output of pip-audit is ignored."""
    made = audit.audit(options(advisories, tmp_path))
    assert not made.is_well
    assert "gunicorn" in made.text
    assert made.text.endswith("OF-A-TEST-1, fixed in 99.1")


def test_every_locked_package_is_audited(advisories: str, tmp_path: Path) -> None:
    locked = pins(audit.ROOT / "requirements-dev.lock")
    # pip-audit skips lines for other systems and older versions of Python.
    assert len(locked) - 6 <= audit.audit(options(advisories, tmp_path)).audited <= len(locked)


def test_an_audit_that_could_not_be_made_says_so_and_fails_nothing(tmp_path: Path) -> None:
    """Fails when an unreachable database passes as a clean audit."""
    made = audit.audit(options(f"http://127.0.0.1:{free_port()}/", tmp_path))
    assert made.is_well
    assert made.audited == 0
    assert made.text.startswith("No audit was made: ")


def test_packages_that_nobody_knows_are_not_called_audited() -> None:
    unknown = {"name": "a", "skip_reason": "not found"}
    known = {"name": "b", "version": "1", "vulns": []}
    assert audit.verdict([unknown])[1].startswith("No audit was made: ")
    assert audit.verdict([unknown, known]) == (
        True,
        "1 packages audited, no vulnerability is known. Not audited: a.",
        1,
    )


def test_the_record_says_when_the_last_audit_was(
    advisories: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "audits.md"
    record.write_text("| day | packages | found |\n|---|---|---|\n")
    away = options(f"http://127.0.0.1:{free_port()}/", tmp_path)
    assert audit.main([*away, "--record"], record) == 0
    assert "None was yet: see" in capsys.readouterr().out
    assert audit.main(options(advisories, tmp_path), record) == 1
    assert len(record.read_text().splitlines()) == 2, "only --record writes"
    assert audit.main([*options(advisories, tmp_path), "--record"], record) == 1
    [*_, row] = record.read_text().splitlines()
    today = datetime.now(UTC).date()
    assert re.fullmatch(rf"\| {today} \| \d+ \| gunicorn \S+: OF-A-TEST-1, fixed in 99.1 \|", row)
    capsys.readouterr()
    assert audit.main(away, record) == 0
    assert f"The last audit was on {today}, see" in capsys.readouterr().out
