"""Each query and script of docs/analysts.md, run as an analyst, prints the text below it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class

from tests.connections import ON_CITUS, second_session
from tests.factories import make_subscription, refresh_totals, voice_record
from tests.given import given
from tests.logins import django_as, login_in
from tests.processes import ROOT, database_url

TEXT = (ROOT / "docs" / "analysts.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```\n\n```text\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
QUESTIONS = [(code, answer) for language, code, answer in BLOCKS if language == "sql"]
SCRIPTS = [(code, answer) for language, code, answer in BLOCKS if language == "python"]

RECORDS = """
    data   101  2026-10-05T10:00:00Z  10.00  1000000
    voice  101  2026-10-06T10:00:00Z  20.00  600
    data   102  2026-10-10T10:00:00Z   5.50  800000
    voice  103  2026-10-20T10:00:00Z  30.00  900
    data   104  2026-10-25T10:00:00Z   1.25  250000
    data   101  2026-11-01T10:00:00Z   2.00  200000
    data   101  2026-11-02T10:00:00Z   2.00  200000
    data   101  2026-11-03T10:00:00Z   2.00  200000
    voice  101  2026-11-03T11:00:00Z  12.00  360
    data   101  2026-11-04T10:00:00Z   2.00  200000
    data   101  2026-11-05T10:00:00Z   2.00  200000
    data   101  2026-11-06T10:00:00Z   2.00  200000
    data   101  2026-11-07T10:00:00Z  40.00  4000000
    data   102  2026-11-02T10:00:00Z   7.00  1000000
    data   102  2026-11-09T10:00:00Z   8.00  1091000
    voice  102  2026-11-09T11:00:00Z   3.00  90
    voice  103  2026-11-04T10:00:00Z  30.00  900
    voice  103  2026-11-04T20:00:00Z  30.00  900
    voice  103  2026-11-12T10:00:00Z  50.00  1500
    data   105  2026-11-20T10:00:00Z   0.10  20000
"""


@pytest.fixture
def analyst(state: None) -> Iterator[str]:
    """Write the records and return a login in usage_analyst; the last record is in no total yet."""
    subscriptions = {name: make_subscription(str(name), id=name) for name in range(101, 106)}
    given(RECORDS)
    refresh_totals()
    voice_record(subscriptions[105], "2026-11-24T10:00:00Z", price="2.50", seconds=75)
    with login_in("usage_analyst") as login:
        yield login


@pytest.fixture
def session(analyst: str) -> Iterator[Connection]:
    with second_session(user=analyst) as session:
        yield session


def as_shown(value: Any) -> str:
    if value is None:
        return ""
    return {True: "t", False: "f"}[value] if isinstance(value, bool) else str(value)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")]


def test_there_are_twelve_questions_and_three_scripts() -> None:
    assert len(QUESTIONS) == TEXT.count("```sql\n") == 12
    assert len(SCRIPTS) == TEXT.count("```python\n") == 3


@pytest.mark.parametrize(("question", "answer"), QUESTIONS, ids=range(1, len(QUESTIONS) + 1))
def test_question_has_its_answer(session: Connection, question: str, answer: str) -> None:
    if ON_CITUS and "usage_daily_live" in question:
        pytest.skip(
            "not on Citus: its workers refuse analysts who read records, even through a view"
        )
    header, _, *rows = answer.splitlines()
    with session.cursor() as cursor:
        cursor.execute(question)
        assert cursor.description is not None
        assert [column.name for column in cursor.description] == cells(header)
        assert [list(map(as_shown, row)) for row in cursor] == [cells(row) for row in rows]


def printed_by(script: str, *, directory: Path, url: str) -> list[str]:
    """Run a script as an analyst; return the lines that it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=directory,
        env={**os.environ, "ANALYST_URL": url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [line.rstrip() for line in done.stdout.splitlines()]


@pytest.mark.parametrize(("script", "answer"), SCRIPTS, ids=["pandas", "parquet", "duckdb"])
def test_script_prints_its_answer(analyst: str, tmp_path: Path, script: str, answer: str) -> None:
    for package in re.findall(r"^import (pandas|duckdb)$", script, re.MULTILINE):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    if "LOAD postgres" in script and duckdb_lacks_postgres():
        pytest.skip("The extension postgres is missing. Run: duckdb -c 'INSTALL postgres'")
    exported = str(tmp_path / "november.parquet")
    call_command("export_usage", exported, "--what=daily", "--month=2026-11", "--format=parquet")
    with django_as(analyst):
        url = database_url()
    assert printed_by(script, directory=tmp_path, url=url) == answer.splitlines()


def duckdb_lacks_postgres() -> bool:
    load = [sys.executable, "-c", "import duckdb; duckdb.sql('LOAD postgres')"]
    return subprocess.run(load, capture_output=True, check=False).returncode != 0
