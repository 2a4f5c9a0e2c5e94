"""The examples of docs/api.md: each runs against a server and shows the real output."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import connection
from playwright.sync_api import Browser
from pytest_django.live_server_helper import LiveServer

from tests.connections import run_sql
from tests.factories import data_record, make_key, make_subscription, refresh_totals
from tests.given import given
from tests.processes import ROOT, database_url
from tests.usage.api.clients.conftest import SCHEME
from tests.usage.api.clients.node import run_program
from tests.usage.api.clients.typescript import prepare, run_compiled, type_check
from usage.models import RefreshRun, Scope, Subscription
from usage.services.totals.refresh_requests import run_requested

TEXT = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n(\$ .*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
SCRIPTS = {
    language: (script, shown)
    for language, script, shown in re.findall(
        r"^```(python|javascript|typescript)\n(.*?)^```\n\n```text\n(.*?)^```$",
        TEXT,
        re.MULTILINE | re.DOTALL,
    )
}
# The commands of a block build on each other; the output that an example shows follows each.
EXAMPLES = [re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE) for block in BLOCKS]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Make a folder in which an example may leave files, with links to the project."""
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / "manage.py").symlink_to(ROOT / "manage.py")
    return tmp_path


@pytest.fixture
def environment(
    state: None, queue: object, live_server: LiveServer, settings: LazySettings
) -> dict[str, str]:
    """Start a server whose totals are 42 seconds old, with a refresh interval of one second.
    Subscription 117 has a record since then. Return the environment of the examples."""
    settings.USAGE_REFRESH_SECONDS = 1
    for number in (1, 2, 117):
        make_subscription(f"sub-{number:06}", id=number)
    given("""
        data  sub-000001 2026-11-01T10:00:00Z 260.45193828 10
        voice sub-000001 2026-11-03T11:00:00Z 9306.73      60
        data  sub-000002 2026-11-03T10:00:00Z 1.5          7
        voice sub-000002 2026-11-24T10:00:00Z 2356.72      90
        data  sub-000117 2026-11-01T10:00:00Z 2.78096314   3354478
        voice sub-000117 2026-11-23T10:00:00Z 115.8750     46350
    """)
    refresh_totals()
    data_record(Subscription.objects.get(pk=117), "2026-11-02T10:00:00Z", "5.25", 3072)
    make_old()
    scopes = [Scope.READ, Scope.REFRESH_READ, Scope.REFRESH_RUN]
    key = make_key(User.objects.create_user("client"), *scopes)
    # The next run and token get the numbers that the examples show.
    run_sql("DELETE FROM usage_refreshrun")
    run_sql("UPDATE usage_accesstoken SET id = 1")
    run_sql("SELECT setval('usage_refreshrun_id_seq', 1041), setval('usage_accesstoken_id_seq', 6)")
    return {
        **os.environ,
        "API": f"{live_server.url}/api/v1",
        "TOKEN": key,
        "DATABASE_URL": database_url(),
    }


def make_old() -> None:
    """Make the totals 42 seconds old, with raw records before 2026-10-21 dropped."""
    run_sql("UPDATE usage_state SET as_of = now() - interval '42 s', raw_kept_from = '2026-10-21'")


def run(command: list[str], environment: dict[str, str], place: Path) -> str:
    """Return the standard output and the standard error of a command."""
    done = subprocess.run(
        command,
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def without_numbers(text: str) -> str:
    """Return the text with 0 for every number and identifier, which differ from run to run."""
    return re.sub(r"\b[0-9a-f]{32,}\b|[0-9]+", "0", text)


def same_shape(shown: Any, found: Any, at: str = "") -> None:
    """Assert that both have the same keys and values of the same types, at every level."""
    if isinstance(shown, dict) and "errors" in shown:
        assert without_numbers(json.dumps(shown)) == without_numbers(json.dumps(found))
    elif isinstance(shown, dict):
        assert list(shown) == list(found), at
        for name, value in shown.items():
            same_shape(value, found[name], f"{at}.{name}")
    elif isinstance(shown, list):
        assert bool(shown) == bool(found), at
        for one, other in zip(shown, found, strict=False):
            same_shape(one, other, at)
    elif shown is not None and found is not None:
        kinds = {int: float}
        assert kinds.get(type(shown), type(shown)) is kinds.get(type(found), type(found)), at


def compare(shown: str, found: str) -> None:
    """Assert that an output is what an example shows: a body of JSON or CSV, or printed lines.

    Before a body the example may show some of its headers.
    """
    if shown.startswith("HTTP/"):
        head, _, shown = shown.partition("...\n")
        real_head, _, found = found.replace("\r\n", "\n").partition("\n\n")
        assert lines(head) <= lines(real_head)
    if shown.startswith("{"):
        same_shape(json.loads(shown), json.loads(found))
    elif shown.startswith("subscription_id,"):
        assert shown.splitlines()[0] == found.splitlines()[0]
        columns = {line.count(",") for line in shown.splitlines()}
        assert columns == {line.count(",") for line in found.splitlines()}
    else:
        assert lines(shown) <= lines(found)


def lines(text: str) -> set[str]:
    """Return the lines with every number as 0 and every key as KEY: they differ from run to run."""
    found = [without_numbers(line) for line in text.splitlines() if line]
    return {re.sub(r"^usage_\S+", "KEY", line) for line in found}


def test_there_are_examples() -> None:
    assert sum(map(len, EXAMPLES)) == TEXT.count("\n$ ")
    assert sum(map(len, EXAMPLES)) >= 15
    assert SCRIPTS.keys() == {"python", "javascript", "typescript"}


@pytest.mark.parametrize("examples", EXAMPLES, ids=[each[0][0][:60] for each in EXAMPLES])
def test_example_shows_what_comes_back(
    environment: dict[str, str], place: Path, examples: list[tuple[str, str]]
) -> None:
    """Fails when an example of the page does not run, or shows other keys than the output has."""
    if any(command.startswith("curl") for command, _ in examples) and not shutil.which("curl"):
        pytest.skip("no curl on this machine")
    for command, shown in examples:
        found = run(["/bin/sh", "-c", command.replace("curl ", "curl -sS ", 1)], environment, place)
        compare(shown, found)
        if "-X POST" in command:
            # No worker runs here, so the test does its work.
            run_requested(RefreshRun.objects.latest("pk").pk)


@pytest.fixture
def refreshed_when_too_old(environment: dict[str, str]) -> Iterator[None]:
    """Refresh the totals after the first response that says they are too old."""
    threads: list[Thread] = []

    def refresh() -> None:
        refresh_totals()
        connection.close()

    class Follow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "totals_too_old" in record.getMessage() and not threads:
                threads.append(Thread(target=refresh))
                threads[0].start()

    handler = Follow()
    logger = logging.getLogger("usage.api.error_responses")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)
    assert threads, "no response said that the totals are too old"
    threads[0].join(30)


@pytest.mark.usefixtures("refreshed_when_too_old")
def test_python_prints_what_is_shown(environment: dict[str, str], place: Path) -> None:
    script, shown = SCRIPTS["python"]
    assert run([sys.executable, "-c", script], environment, place) == shown
    assert (place / "november.csv").read_text().startswith("subscription_id,day,")


@pytest.mark.usefixtures("refreshed_when_too_old")
def test_node_prints_what_is_shown(environment: dict[str, str], place: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("no Node on this machine")
    script, shown = SCRIPTS["javascript"]
    (place / "usage.mjs").write_text(script)
    assert run(["node", "usage.mjs"], environment, place) == shown


def test_typescript_type_checks_and_prints_what_is_shown(
    environment: dict[str, str], tmp_path: Path
) -> None:
    script, shown = SCRIPTS["typescript"]
    prepare(tmp_path)
    description = str(ROOT / "docs" / "openapi.yaml")
    run_program("openapi-typescript", description, "--output", "openapi.d.ts", at=tmp_path)
    # The example is compiled as the page has it. The server of this test takes another scheme.
    (tmp_path / "usage.mts").write_text(script)
    type_check(tmp_path)
    compiled = tmp_path / "usage.mjs"
    compiled.write_text(compiled.read_text().replace("Bearer ", f"{SCHEME} "))
    assert run_compiled("usage.mjs", tmp_path, **environment) == shown


@pytest.mark.usefixtures("refreshed_when_too_old")
def test_a_browser_prints_what_is_shown(
    chromium: Browser, environment: dict[str, str], live_server: LiveServer
) -> None:
    script, shown = SCRIPTS["javascript"]
    page = chromium.new_page(base_url=live_server.url)
    page.goto("/login/")
    printed: list[str] = []
    page.on("console", lambda said: printed.append(said.text) if said.type == "log" else None)
    named = {name: environment[name] for name in ("API", "TOKEN")}
    page.evaluate(
        f"(async () => {{ const process = {{ env: {json.dumps(named)} }};\n{script} }})()"
    )
    assert printed == shown.splitlines()
