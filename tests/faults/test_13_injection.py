"""SQL and paths in every input: the log of statements shows that PostgreSQL ran none of them."""

import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.connections import ask as rows
from tests.faults.installation import ROOT, Installation, installed
from tests.faults.raw_http import ask, written
from tests.faults.test_12_any_request import ALLOWED_ERRORS, HEADERS, Web
from tests.faults.trials import Trials
from tests.usage.api.api_requests import LISTS
from tests.usage.api.test_any_input import NAMES
from tests.usage.importing import HEADER, write_records

# {} becomes a unique name. If it is outside a literal in the log, PostgreSQL ran the payload.
PAYLOADS = [
    "'; DROP TABLE canary; SELECT 1 AS {} --",
    "' OR {}() IS NULL --",
    "''; DELETE FROM canary WHERE {} --",
    "\\'; DROP TABLE canary; SELECT {}; --",
    "1; DELETE FROM canary; SELECT 1 AS {}",
    "1) UNION SELECT {} FROM canary --",
    '"; DROP TABLE canary; SELECT {} --',
    "$$; DROP TABLE canary; SELECT {}; $$",
    "%s %(x)s '{} --",
    "'); COPY canary FROM PROGRAM 'touch {}'; --",
    "/* {} */ '; DROP TABLE canary; --",
    "../../../../../../etc/passwd?{}",
    "..%2f..%2f..%2f..%2fetc/passwd%00{}",
    "/etc/passwd\x00{}",
]
# Literals, which are removed, and comments, dollar quotes and identifiers (group 1), which stay.
TOKEN = re.compile(
    r"(--[^\n]*|/\*.*?\*/|\$(\w*)\$.*?\$\2\$|\"(?:[^\"]|\"\")*\")"
    r"|(?<!\w)E'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'",
    re.DOTALL | re.IGNORECASE,
)
NAME = re.compile(r"injected\d+")
# Commands with `{}` in place of the payload; no option that names a file to write.
COMMANDS = [
    *(["forget_subscription", "{}"], ["make_token", "{}", "--name=x", "--scope=usage:read"]),
    ["make_token", "{}", "--new-user", "--name=x", "--scope=usage:read"],
    ["make_token", "client", "--name={}", "--scope=usage:read"],
    *(["make_token", "client", "--name=x", "--scope={}"], ["revoke_token", "{}"]),
    *(["verify_usage", "--from={}"], ["verify_usage", "--to={}"], ["verify_usage", "--sample={}"]),
    *(["rebuild_usage", "--from={}", "--to=2026-11-01"], ["import_usage", "{}"]),
    *(["import_usage", "empty.csv", "--zone={}"], ["import_usage", "empty.csv", "--format={}"]),
    *(
        ["export_usage", "out.csv", "--what={}"],
        ["export_usage", "out.csv", "--what=totals", "--month={}"],
    ),
]
RUN = """
import io, json, sys, django
django.setup()
from django.core.management import CommandError, call_command
for arguments in map(json.loads, sys.stdin):
    try:
        call_command(*arguments, stdout=io.StringIO(), stderr=io.StringIO())
    except (CommandError, SystemExit):
        pass
"""


def outside_literals(statement: str) -> str:
    return TOKEN.sub(lambda found: found[1] or "", statement)


@pytest.fixture(scope="module")
def logged() -> Iterator[Installation]:
    """Yield an installation whose server logs every statement, with a table `canary`."""
    settings = {"log_statement": "all", "log_line_prefix": "@@ "}
    with installed(settings) as made:
        with made.session() as session, session.cursor() as cursor:
            cursor.execute("CREATE TABLE canary AS SELECT generate_series(1, 3) AS number")
        yield made


@pytest.fixture(scope="module")
def web(logged: Installation) -> Web:
    return Web(logged)


@pytest.fixture
def nothing_was_run(logged: Installation) -> Iterator[None]:
    """Assert after the test that statements have payloads only as quoted text."""
    began = logged.database.log.stat().st_size
    yield
    with logged.database.log.open(errors="replace") as log:
        log.seek(began)
        statements = log.read().split("\n@@ ")
    assert any(NAME.search(statement) for statement in statements), "no payload reached the server"
    run = [each for each in statements if each.startswith("LOG:  ")]
    assert [each for each in run if NAME.search(outside_literals(each))] == []
    with logged.session() as session:
        assert rows(session, "SELECT count(*) FROM canary") == [(3,)]
        assert rows(session, "SELECT count(*) FROM pg_class WHERE relname ~ 'injected'") == [(0,)]


def payload(number: int) -> str:
    return PAYLOADS[number % len(PAYLOADS)].format(f"injected{number}")


def test_the_check_finds_text_that_breaks_out_of_its_quotes() -> None:
    """Fails when outside_literals() removes text that PostgreSQL would run, or keeps a literal."""
    for number in range(11):
        text = payload(number)
        assert NAME.search(outside_literals(f"SELECT 1 WHERE x = {text}"))
        quoted = text.replace("'", "''")
        assert not NAME.search(outside_literals(f"SELECT '{quoted}', 'it''s' -- don't\n"))
        escaped = quoted.replace("\\", "\\\\")
        assert not NAME.search(outside_literals(f"SELECT $$it's$$,  E'{escaped}'"))
    assert NAME.search(outside_literals("SELECT ''; DROP TABLE canary; SELECT 1 AS injected1 --'"))


@pytest.mark.usefixtures("nothing_was_run")
def test_requests(web: Web, trials: Trials) -> None:
    """Fails when a parameter, a header or a part of a path becomes SQL, or names a file."""
    chance = random.Random(13)

    def try_one(number: int) -> None:
        text, path = payload(number), f"/api/v1/{chance.choice(list(LISTS))}/"
        query, headers = LISTS.get(path[8:-1], ""), list(web.head)
        match number // len(PAYLOADS) % 8:
            case 0:
                path = f"{chance.choice(['/static/', '/api/v1/refreshes/', '/'])}{quote(text)}/"
            case 1:
                name = chance.choice(HEADERS)
                headers = [head for head in headers if head[0] != name]
                headers.append((name, text.replace("\x00", "")))
            case 2:
                query += f"&{quote(text)}=1"
            case 3:
                query += f"&external_id={quote(text)}"
            case _:
                query += f"&{chance.choice(NAMES)}={quote(text)}"
        response = ask(web.url, written("GET", f"{path}?{query}", headers))
        assert response.status < 500 or response.status in ALLOWED_ERRORS, (path, query, response)
        assert b"root:x:0" not in response.body
        trials.count("requests")

    with ThreadPoolExecutor(4) as threads:
        for batch in trials.of("batches of 250", short=1, full=30, minutes=6):
            list(threads.map(try_one, range(batch * 250, batch * 250 + 250)))
    assert web.failures() == []


@pytest.mark.usefixtures("nothing_was_run")
def test_fields_of_a_file(logged: Installation, trials: Trials, tmp_path: Path) -> None:
    """Fails when a field of a line becomes SQL."""
    fine = ["data", "anna", "2026-11-24T10:00:00Z", "1.5", "10", "key"]
    lines = []
    count = 2000 if trials.full else 84
    for number in range(count):
        fields = list(fine)
        fields[number // len(PAYLOADS) % len(fields)] = payload(number).replace("\x00", "")
        lines.append(",".join('"' + field.replace('"', '""') + '"' for field in fields))
    file = write_records(tmp_path / "payloads.csv", *lines, header=HEADER)
    output = logged.manage("import_usage", str(file), exits=1)
    assert f"{count:,} read" in output
    trials.count("lines of a file", count)


@pytest.mark.usefixtures("nothing_was_run")
def test_options_of_commands(logged: Installation, trials: Trials, tmp_path: Path) -> None:
    """Fails when an option becomes SQL, or a command breaks on an option."""
    (tmp_path / "empty.csv").write_text(f"{HEADER}\n")
    times = len(PAYLOADS) * (3 if trials.full else 1)
    commands = [
        [
            word.format(payload(number).replace("\x00", "")) if "{}" in word else word
            for word in words
        ]
        for words in COMMANDS
        for number in range(times)
    ]
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=tmp_path,
        env={
            **logged.environment,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "config.settings",
        },
        input="".join(f"{json.dumps(words)}\n" for words in commands),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    trials.count("options of commands", len(commands))
