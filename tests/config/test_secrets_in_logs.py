"""No password, key or session id reaches a log, also when parts of an installation fail."""

import http.client
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from bin import processes
from bin.broker import ADDRESS
from tests.connections import ask, wait_until
from tests.faults.installation import ROOT, Installation, installed

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def installation() -> Iterator[Installation]:
    """An installation with a password in each address; its PostgreSQL server accepts any."""
    with installed() as made:
        yield made


def status(port: int, path: str, body: str | None = None, **headers: str) -> int:
    """Return the status of the response, 0 if there is none."""
    form = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=60)
    try:
        connection.request("POST" if body else "GET", path, body, {**form, **headers})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def test_no_secret_is_logged_when_everything_fails(installation: Installation) -> None:
    """Run web, worker, beat and commands with errors, without the broker and without the database.

    Fails when config/logs.py hides one secret less, or a command prints an address.
    """
    password, metrics = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    address = installation.environment["DATABASE_URL"]
    installation.environment |= {
        "DATABASE_URL": address.replace("://usage@", f"://usage:{password}@"),
        "USAGE_METRICS_TOKEN": metrics,
        "DJANGO_SECRET_KEY": secrets.token_urlsafe(50),
    }
    of_person = secrets.token_urlsafe(12)
    installation.manage(
        *("createsuperuser", "--noinput", "--username", "somebody", "--email", "s@example.org"),
        DJANGO_SUPERUSER_PASSWORD=of_person,
    )
    output = installation.manage("make_token", "somebody", "--name", "t", "--scope", "usage:read")
    key = next(word for word in output.split() if word.startswith("usage_"))
    said: list[str] = []

    def command(*arguments: str) -> int:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=installation.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        said.extend([done.stdout, done.stderr])
        return done.returncode

    installation.start(processes.worker(), "worker.log")
    installation.start(processes.beat(str(installation.place / "beat")), "beat.log")
    _, web = installation.start_web()
    port = int(web.rpartition(":")[2])
    wait_until(lambda: status(port, "/health/live") == 200, seconds=120, what="the web server")

    def everything() -> set[int]:
        login = urlencode({"username": "somebody", "password": of_person})
        return {
            status(port, "/api/v1/subscriptions/", Authorization=f"Token {key}"),
            status(port, "/api/v1/subscriptions/", Authorization=f"Token {key}x"),
            status(port, f"/api/v1/subscriptions/?token={key}&password={of_person}"),
            status(port, "/metrics", Authorization=f"Bearer {metrics}"),
            status(port, "/metrics", Authorization=f"Bearer {metrics}x"),
            status(port, f"/{key}", Cookie=f"sessionid={key}"),
            status(port, "/login/", login),
        }

    assert {200, 401, 404} <= everything()
    with installation.session() as session:
        ask(session, "ALTER TABLE usage_accesstoken RENAME TO away")
        assert 500 in everything()
        ask(session, "ALTER TABLE away RENAME TO usage_accesstoken")
    installation.broker.stop()
    everything()
    assert command("usage_status") in {0, 1}
    wait_until(
        lambda: (
            "ConnectionError" in (installation.place / "worker.log").read_text()
            or "Cannot connect" in (installation.place / "worker.log").read_text()
        ),
        seconds=120,
        what="the worker to miss the broker",
    )
    installation.database.stop()
    assert 503 in everything()
    assert command("usage_status") == 2
    assert command("refresh_usage") != 0
    assert command("migrate") != 0
    time.sleep(1)
    logs = {path.name: path.read_text() for path in installation.place.glob("*.log")}
    assert {"web.log", "worker.log", "beat.log"} <= logs.keys()
    assert '"exception"' in logs["web.log"]
    logs["commands"] = "".join(said)
    hidden = {
        "password of the database": password,
        "password of the broker": installation.broker.password,
        "secret key": installation.environment["DJANGO_SECRET_KEY"],
        "token of /metrics": metrics,
        "token": key,
        "digits of the token": key.removeprefix("usage_"),
        "password of a person": of_person,
    }
    found = [(log, name) for log, text in logs.items() for name, it in hidden.items() if it in text]
    assert found == []
