"""The command export_usage: the lists of the API as files."""

import os
import pty
import sys
import termios
from datetime import UTC, date, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from pyarrow import parquet  # type: ignore[import-untyped]

from tests.connections import run_sql
from tests.factories import data_record, make_subscription, refresh_totals, voice_record
from tests.usage.importing import finished, start_command
from usage.management.commands import export_usage

DAILY = (
    "subscription_id,day,usage_type,unit,total_price,total_usage,record_count,last_usage_at\r\n"
    "1,2026-11-01,data,kilobytes,0.30000001,30,2,2026-11-01T23:59:59.500000Z\r\n"
    "1,2026-11-02,voice,seconds,-9,60,1,2026-11-02T10:00:00.000000Z\r\n"
)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def usage(state: None) -> None:
    anna = make_subscription("anna", id=1)
    make_subscription("=bob", id=2)
    data_record(anna, "2026-11-01T10:00:00Z", price="0.3", kilobytes=10)
    data_record(anna, "2026-11-01T23:59:59.5Z", price="0.00000001", kilobytes=20)
    voice_record(anna, "2026-11-02T10:00:00Z", price="-9.00", seconds=60)
    refresh_totals()
    run_sql("UPDATE usage_state SET as_of = '2026-11-24T12:00:00.000000Z'")


def run(*arguments: str) -> str:
    """Run the command and return its output."""
    output = StringIO()
    call_command("export_usage", *arguments, stdout=output)
    return output.getvalue()


def exported(*arguments: str) -> list[str]:
    """Export to a file and return its lines."""
    run("out.csv", *arguments)
    return Path("out.csv").read_bytes().decode().removesuffix("\r\n").split("\r\n")


def test_writes_every_row_and_prints_as_of(usage: None) -> None:
    output = run("daily.csv", "--what", "daily")
    assert output == "daily.csv: 2 rows of daily as of 2026-11-24T12:00:00.000000Z\n"
    assert Path("daily.csv").read_bytes().decode() == DAILY
    assert Path("daily.csv").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        ("daily --ordering=-day --usage-type data", [DAILY.split("\r\n")[1]]),
        ("daily --month 2026-10", []),
        (
            "totals --from-date 2026-11-02 --external-id anna,nobody",
            ["1,voice,seconds,-9,60,1,2026-11-02,2026-11-02"],
        ),
        ("over-limit --price-limit 0.3 --to-date 2026-11-01", ["1,data,0.30000001,0.00000001"]),
        ("totals --subscription-id 2 --subscription-id 3", []),
    ],
)
def test_options_are_the_parameters_of_the_api(
    usage: None, arguments: str, lines: list[str]
) -> None:
    assert exported("--what", *arguments.split())[1:] == lines


def test_records_and_subscriptions_are_lists_too(usage: None) -> None:
    header, *records = exported(
        "--what", "records", "--subscription-id=1", "--usage-type=data", "--day=2026-11-01"
    )
    assert header == "id,usage_date,price,quantity,unit"
    assert [record.split(",")[2] for record in records] == ["0.3", "0.00000001"]
    assert [line.split(",")[1] for line in exported("--what", "subscriptions")[1:]] == [
        "anna",
        "'=bob",
    ]


def test_live_rows_are_read_from_raw_records(usage: None) -> None:
    run_sql("DELETE FROM usage_voiceusagerecord")
    named = ("--what", "daily", "--subscription-id", "1")
    assert len(exported(*named)) == 3
    assert exported(*named, "--live")[1:] == [DAILY.split("\r\n")[1]]


def test_every_fault_is_named(usage: None) -> None:
    with pytest.raises(CommandError) as failed:
        run("out.csv", "--what", "totals", "--month=2026", "--price-limit=1", "--live")
    assert str(failed.value).splitlines() == [
        "--live: Name subscriptions (subscription_id, external_id) for a live answer.",
        "--month: '2026' is not allowed. Give a month as YYYY-MM, from 2000-01 to 2099-12, without "
        "from_date and to_date.",
        "--price-limit: Not for --what totals.",
    ]
    assert failed.value.returncode == 1
    assert not Path("out.csv").exists()


def test_totals_that_were_never_filled_are_an_error(usage: None) -> None:
    run_sql("UPDATE usage_state SET as_of = NULL")
    with pytest.raises(CommandError, match=r"never filled\. Run: manage\.py refresh_usage"):
        run("out.csv", "--what", "totals")


def test_parquet_has_the_same_rows_with_types(usage: None) -> None:
    run("daily.parquet", "--what", "daily", "--format", "parquet")
    table = parquet.read_table("daily.parquet")
    assert ",".join(table.schema.names) == DAILY.split("\r\n", maxsplit=1)[0]
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        (
            *(1, date(2026, 11, 1), "data", "kilobytes", Decimal("0.30000001"), 30, 2),
            datetime(2026, 11, 1, 23, 59, 59, 500000, tzinfo=UTC),
        ),
        (
            *(1, date(2026, 11, 2), "voice", "seconds", Decimal("-9.00"), 60, 1),
            datetime(2026, 11, 2, 10, tzinfo=UTC),
        ),
    ]
    assert table.schema.metadata == {
        b"as_of": b"2026-11-24T12:00:00.000000Z",
        b"live": b"false",
        b"time_zone": b"UTC",
        b"currency": b"USD",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        "over-limit --price-limit 0",
        "totals",
        "daily",
        "records --subscription-id 1 --usage-type data --day 2026-11-01",
        "subscriptions",
    ],
)
def test_every_list_has_a_parquet_file_even_without_rows(state: None, arguments: str) -> None:
    lines = exported("--what", *arguments.split())
    run("out.parquet", "--format", "parquet", "--what", *arguments.split())
    table = parquet.read_table("out.parquet")
    assert [",".join(table.schema.names)] == lines
    assert table.num_rows == 0


def test_without_pyarrow_parquet_says_what_to_install(
    usage: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(CommandError, match=r"needs pyarrow\. Run: pip install pyarrow"):
        run("out.parquet", "--what", "daily", "--format", "parquet")
    assert list(Path().iterdir()) == []


def test_an_interrupted_export_leaves_the_earlier_file(
    usage: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    Path("out.csv").write_text("before")
    monkeypatch.setattr(export_usage, "csv_chunks", interrupt)
    with pytest.raises(CommandError) as failed:
        run("out.csv", "--what", "daily")
    assert failed.value.returncode == 130
    assert [path.read_text() for path in Path().iterdir()] == ["before"]


def test_standard_output_gets_rows_alone(usage: None, directory: Path) -> None:
    process = start_command("export_usage", "-", "--what", "daily", cwd=directory)
    [(code, output, error)] = finished([process])
    assert (code, output) == (0, DAILY.replace("\r\n", "\n"))  # as Python reads text
    assert error == "-: 2 rows of daily as of 2026-11-24T12:00:00.000000Z\n"


def test_a_reader_that_closes_the_pipe_causes_no_traceback(usage: None, directory: Path) -> None:
    with start_command("export_usage", "-", "--what", "daily", cwd=directory) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        error = process.stderr.read()
    assert process.returncode == 1
    assert error == "CommandError: Standard output cannot be written: Broken pipe.\n"


def test_a_terminal_shows_progress(usage: None, directory: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    process = start_command(
        "export_usage", "out.csv", "--what", "daily", cwd=directory, stderr=theirs
    )
    os.close(theirs)
    output, _ = process.communicate(timeout=60)
    assert output == "out.csv: 2 rows of daily as of 2026-11-24T12:00:00.000000Z\n"
    shown = os.read(ours, 65_536).decode()
    os.close(ours)
    assert "2.00 rows" in shown


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call_command("export_usage", "--help")
    text = capsys.readouterr().out
    assert "\n  manage.py export_usage november.csv --what totals --month 2026-11\n" in text
    assert "--price-limit VALUE" in text
    assert "a plain decimal number from 0, such as 25 or 0.005" in text
