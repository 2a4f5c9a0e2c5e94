"""Commands escape control characters, which a terminal would obey."""

import os
import subprocess
import sys
from importlib import import_module
from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.db.models.functions import Now

from tests.processes import ROOT, database_url
from tests.usage.importing import write_records
from usage.errors import UsageError
from usage.management import commands
from usage.management.terminal import one_line
from usage.management.usage_command import UsageCommand
from usage.models import AccessToken, RefreshRun, Scope
from usage.services.accounts.tokens import make_token

# Codes that clear the screen, forge a line, return to its beginning, and reverse letters.
HOSTILE = "a\x1b[2Jb\nc\rd\x9b1m\u202ee"
SHOWN = "a\\x1b[2Jb\\nc\\rd\\x9b1m\\u202ee"


class Hostile(UsageCommand):
    def handle(self, *_args: object, **_options: object) -> None:
        self.stdout.write("line\n" + HOSTILE.replace("\n", ""))
        raise UsageError(HOSTILE)


def output_of(command: str, *arguments: str) -> str:
    output = StringIO()
    call_command(command, *arguments, stdout=output, stderr=output)
    return output.getvalue()


def is_plain(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


def test_every_command_writes_to_a_safe_output() -> None:
    for file in Path(commands.__path__[0]).glob("[a-z]*.py"):
        module = import_module(f"{commands.__name__}.{file.stem}")
        assert issubclass(module.Command, UsageCommand), file.name


def test_output_and_errors_of_a_command_have_no_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        Hostile().run_from_argv(["manage.py", "hostile", "--skip-checks"])
    printed = capsys.readouterr()
    assert printed.out == "line\na\\x1b[2Jbc\\rd\\x9b1m\\u202ee\n"
    assert "UsageError" not in printed.err
    assert "a\\x1b[2Jb\nc\\rd" in printed.err
    assert is_plain(printed.out + printed.err)


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_of_django_are_not_escaped() -> None:
    output = Terminal()
    command = Hostile(stdout=output, force_color=True)
    command.stdout.write(HOSTILE, command.style.ERROR)
    assert output.getvalue().startswith("\x1b[")
    assert "a\\x1b[2Jb" in output.getvalue()


@pytest.mark.django_db
def test_the_name_of_a_token_is_one_line_of_plain_text() -> None:
    user = User.objects.create_user(HOSTILE)
    token, _ = make_token(user=user, name=HOSTILE, scopes=[Scope.READ])
    listed = output_of("list_tokens")
    assert listed.startswith(f"{token.pk}  {SHOWN} ({SHOWN})  usage:read")
    made = output_of("make_token", HOSTILE, "--name", "x", "--scope", "usage:read")
    revoked = output_of("revoke_token", str(token.pk))
    for text in (made, revoked):
        assert SHOWN in text
    assert [text.count("\n") for text in (listed, made, revoked)] == [1, 2, 1]
    assert is_plain(listed + made + revoked)
    assert AccessToken.objects.get(pk=token.pk).name == HOSTILE


def test_the_error_of_a_run_is_one_line_of_the_status(state: None) -> None:
    RefreshRun.objects.create(
        trigger="command", status="failed", started_at=Now(), finished_at=Now(), error=HOSTILE
    )
    lines = output_of("usage_status").splitlines()
    assert sum(line.endswith(SHOWN) for line in lines) == 2, "the last run and the last failure"
    assert is_plain("\n".join(lines))


def test_names_of_files_are_one_line(state: None, tmp_path: Path) -> None:
    path = write_records(tmp_path / f"{HOSTILE}.csv", "data,A,2026-11-01T10:00:00Z,0.5,1,k1")
    assert f"{SHOWN}.csv: 1 read" in (imported := output_of("import_usage", str(path)))
    exported = output_of(
        "export_usage", str(tmp_path / f"{HOSTILE}.new"), "--what", "subscriptions"
    )
    assert f"{SHOWN}.new: 1 rows" in exported
    assert [text.count("\n") for text in (imported, exported)] == [2, 1]


def test_letters_of_every_script_are_left_as_they_are() -> None:
    assert one_line("zoë Ελένη 李 'x' \\x1b") == "zoë Ελένη 李 'x' \\x1b"


def test_sizes_are_plain_text(state: None) -> None:
    assert " KB\n" in (shown := output_of("usage_status"))
    assert "\\x" not in shown


@pytest.mark.django_db
def test_a_reader_that_closes_the_pipe_gets_no_traceback() -> None:
    listing = subprocess.run(
        ["bash", "-c", f"{sys.executable} manage.py usage_status | true"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database_url(connection.settings_dict["NAME"])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in listing.stderr
