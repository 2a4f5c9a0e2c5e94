"""The command import_usage: its options, output and exit codes."""

import gzip
import os
import pty
import subprocess
import termios
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.usage.importing import HEADER, finished, start_command, stored, write_records

pytestmark = pytest.mark.usefixtures("directory", "only_default_partitions")

GOOD = "data,a,2026-11-15T21:00:00Z,0.5,1,k1"
BAD = "data,a,2026-11-15T21:00:00Z,free,1,k2"


def run(*arguments: str | Path, **options: Any) -> list[str]:
    """Run the command and return the lines of its output."""
    output = StringIO()
    call_command("import_usage", *map(str, arguments), stdout=output, **options)
    return output.getvalue().splitlines()


@pytest.mark.one_server("it counts records already known as added")
def test_reports_each_file(directory: Path) -> None:
    one = write_records(directory / "one.csv", GOOD)
    two = write_records(directory / "two.csv.gz", GOOD, GOOD)
    lines = run(one, two)
    assert len(lines) == 4
    assert lines[0].startswith(
        f"{one}: 1 read, 1 added, 0 already known, 0 differing, 0 rejected in 0."
    )
    assert lines[0].endswith(" rows/s)")
    assert lines[1] == "  It touched 1 day: 2026-11-15."
    assert lines[2].startswith(
        f"{two}: 2 read, 1 added, 1 already known, 0 differing, 0 rejected in 0."
    )


def test_rejected_lines_are_shown_and_make_the_exit_code_1(directory: Path) -> None:
    path = write_records(directory / "usage.csv", GOOD, BAD)
    output = StringIO()
    with pytest.raises(CommandError, match=r"1 line was rejected\.") as failed:
        call_command("import_usage", str(path), stdout=output)
    assert failed.value.returncode == 1
    lines = output.getvalue().splitlines()
    assert lines[0].startswith(
        f"{path}: 2 read, 1 added, 0 already known, 0 differing, 1 rejected in "
    )
    assert lines[1].startswith("  line 3: price 'free' is not a plain decimal number")
    assert lines[2] == (
        f"  Rejected lines are in {directory / 'usage.csv.rejects'}. Once they are corrected,"
        " import that file with the same options and --source usage.csv"
    )
    assert len(stored()) == 1


def test_a_file_that_cannot_be_imported_makes_the_exit_code_2(directory: Path) -> None:
    good = write_records(directory / "good.csv", GOOD)
    with pytest.raises(CommandError, match=r"missing\.csv cannot be read: No such file") as failed:
        run(good, directory / "missing.csv")
    assert failed.value.returncode == 2
    assert stored() == []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--zone", "Europe/Londn"], "'Europe/Londn' is not an IANA time zone such as"),
        (["--format", "xml"], "invalid choice: 'xml'"),
        (["--future", "-1"], "'-1' is not a number of days from 0 to 36500"),
        (["--future", "36501"], "'36501' is not a number of days from 0 to 36500"),
    ],
)
def test_options_are_checked(directory: Path, options: list[str], error: str) -> None:
    with pytest.raises(CommandError, match=error):
        run(write_records(directory / "usage.csv", GOOD), *options)


def test_call_records_need_a_zone(directory: Path) -> None:
    path = directory / "calls.csv"
    path.write_text("1,01,1,02,15/11/2026,15/11/2026,21:00:00,21:01:00,Local,10\n")
    with pytest.raises(CommandError, match="name their time zone with --zone"):
        run(path, "--format", "calls")
    run(path, "--format", "calls", "--zone", "Europe/London")
    assert stored() == [("voice", "01", "2026-11-15 21:00:00.000", "0.10", 60)]


def test_dry_run_and_rejects_and_source_are_passed_on(directory: Path) -> None:
    path = write_records(directory / "usage.csv", GOOD)
    assert run(path, "--dry-run")[0].startswith(f"{path}: 1 read, 1 would be added, 0 already")
    assert stored() == []
    run(path, "--source", "network a")
    write_records(directory / "usage.csv", GOOD, BAD)
    rejects = directory / "rejects.csv"
    with pytest.raises(CommandError, match=r"1 line was rejected\."):
        run(path, "--source", "network a", "--rejects", rejects)
    assert rejects.read_text().splitlines()[1].endswith(BAD)
    assert len(stored()) == 1


@pytest.mark.parametrize("compress", [False, True])
def test_standard_input_is_imported(directory: Path, compress: bool) -> None:
    data = f"{HEADER}\n{GOOD}\n{BAD}\n".encode()
    (directory / "input").write_bytes(gzip.compress(data) if compress else data)
    cat = subprocess.Popen(["cat", "input"], stdout=subprocess.PIPE)
    assert cat.stdout is not None
    process = start_command("import_usage", "-", cwd=directory, stdin=cat.stdout.fileno())
    ((code, output, error),) = finished([process])
    cat.communicate()
    assert code == 1
    assert output.startswith("-: 2 read, 1 added, 0 already known, 0 differing, 1 rejected in ")
    assert error == "CommandError: 1 line was rejected.\n"
    assert (directory / "stdin.rejects").exists()
    assert len(stored()) == 1


def test_a_terminal_shows_progress(directory: Path) -> None:
    path = write_records(directory / "usage.csv", GOOD)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    process = start_command("import_usage", path, cwd=directory, stderr=theirs)
    os.close(theirs)
    output, _ = process.communicate(timeout=60)
    assert output.startswith(f"{path}: 1 read, 1 added")
    shown = os.read(ours, 65_536).decode()
    os.close(ours)
    assert "usage.csv: 100%" in shown
    assert "1 lines" in shown


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call_command("import_usage", "--help")
    text = capsys.readouterr().out
    assert "\n  manage.py import_usage calls.csv.gz --format calls --zone Europe/London\n" in text
