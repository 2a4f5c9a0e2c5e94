"""CSV by RFC 4180: line breaks inside quotes, quotes that never close, a truncated end."""

import gzip
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.usage.importing import (
    HEADER,
    call,
    counts,
    finished,
    imported,
    start_command,
    stored,
    write,
    write_records,
)
from usage.services import imports
from usage.services.imports.lines import LONGEST_RECORD_CHARACTERS, NO_LINE_END

pytestmark = pytest.mark.usefixtures("directory", "only_default_partitions")

WITH_NOTE = f"note,{HEADER}"
GOOD = "data,a,2026-11-15T21:00:00Z,3,1,k1"
HIDDEN = "data,a,2026-11-15T21:00:00Z,500,1,k2"


def prices() -> list[str]:
    return [price for _, _, _, price, _ in stored()]


@pytest.mark.parametrize("block_bytes", [1, 40, 1 << 20])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_inside_a_quoted_value_is_no_record(
    directory: Path, end: str, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a record ends at each line break."""
    monkeypatch.setattr("usage.services.imports.lines.BLOCK_BYTES", block_bytes)
    path = directory / "usage.csv"
    lines = [WITH_NOTE, '"said ""so""', f"x,{HIDDEN}", f'",{GOOD}', "y,data,a,never,1,1,k3", ""]
    path.write_bytes(end.join(lines).encode())
    report = imported(path)
    assert counts(report) == (2, 1, 0, 1)
    assert prices() == ["3"]
    assert [line for line, _, _ in report.first_rejections] == [5]


def test_a_quote_inside_an_unquoted_value_opens_nothing(directory: Path) -> None:
    """Fails when quotes are only counted: this line has two quotes and ends inside a value."""
    path = write_records(
        directory / "usage.csv",
        f'5" pipe,"so\nx,y,{HIDDEN}\n",{GOOD}',
        header=f"note,more,{HEADER}",
    )
    assert counts(imported(path)) == (1, 1, 0, 0)
    assert prices() == ["3"]


def test_a_rejected_record_keeps_its_line_breaks(directory: Path) -> None:
    path = write_records(
        directory / "usage.csv", "voice,b,2026-11-15T21:00:00Z,1,1,k0", header=HEADER
    )
    bad = 'data,"a\nb",2026-11-15T21:00:00Z,1,1,k1'
    path.write_text(f"{HEADER}\n{bad}\n{GOOD}\n")
    report = imported(path)
    assert counts(report) == (2, 1, 0, 1)
    ((line, reason, text),) = report.first_rejections
    assert (line, text) == (2, bad)
    assert reason.startswith("external_id 'a\\nb' is not text of at most 100 characters without")
    assert report.rejects is not None
    assert report.rejects.read_text().endswith(f",{bad}\n")


def test_line_ends_of_windows_are_no_part_of_values_or_of_rejected_lines(directory: Path) -> None:
    """Fails when a line keeps its carriage return, or loses one inside quotes."""
    bad = '"a\r\nb",data,a,never,1,1,k1'
    path = directory / "usage.csv"
    path.write_bytes(f'{WITH_NOTE}\r\nx,{GOOD}\r\n"y",{HIDDEN}\r\n{bad}\r\n'.encode())
    report = imported(path)
    assert counts(report) == (3, 2, 0, 1)
    assert [(line, text) for line, _, text in report.first_rejections] == [(4, bad)]
    assert report.rejects is not None
    assert report.rejects.read_bytes().endswith(f",{bad}\n".encode())


def test_a_carriage_return_inside_a_value_is_no_csv(directory: Path) -> None:
    path = directory / "usage.csv"
    path.write_bytes(f'{WITH_NOTE}\nx\ry,{HIDDEN}\n"x\ry",{GOOD}\n'.encode())
    report = imported(path)
    assert counts(report) == (2, 1, 0, 1)
    assert report.first_rejections[0].reason.startswith("not a line of CSV: new-line character")


@pytest.mark.parametrize("small_batches", [False, True])
def test_a_quote_that_never_closes_rejects_everything_from_its_line_on(
    directory: Path, small_batches: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when the lines after the quote are read as records."""
    if small_batches:
        monkeypatch.setattr(imports, "BATCH_LINES", 2)
    open_quote = 'data,"a,2026-11-15T21:00:00Z,1,1,k0'
    report = imported(write_records(directory / "usage.csv", GOOD, open_quote, HIDDEN, "", HIDDEN))
    assert counts(report) == (4, 1, 0, 3)
    assert prices() == ["3"]
    why = (
        "the quote that opens on line 3 has no valid end in CSV (unexpected end of data):"
        " no line from there on can be read"
    )
    assert report.first_rejections == [(3, why, open_quote), (4, why, HIDDEN), (6, why, HIDDEN)]


def test_a_quote_closed_by_the_quote_of_another_line_rejects_everything_from_its_line_on(
    directory: Path,
) -> None:
    """Fails when reading continues after the wrong quote, where a value may still be open."""
    path = write_records(
        directory / "usage.csv",
        f"x,{GOOD}",
        '"x,data,a,2026-11-15T21:00:00Z,1,1,k0',
        '"a note',
        f"x,{HIDDEN}",
        f'",{GOOD}',
        header=WITH_NOTE,
    )
    report = imported(path)
    assert counts(report) == (5, 1, 0, 4)
    assert prices() == ["3"]
    assert "has no valid end in CSV (',' expected after" in report.first_rejections[0].reason


def test_a_record_with_an_open_quote_has_a_limit_of_length(
    directory: Path,
) -> None:
    count = LONGEST_RECORD_CHARACTERS // len(HIDDEN) + 100
    path = write_records(directory / "usage.csv", GOOD, '"', *[HIDDEN] * count, '"')
    report = imported(path)
    assert counts(report) == (count + 3, 1, 0, count + 2)
    assert "(longer than 65536 characters)" in report.first_rejections[0].reason
    empty = write_records(
        directory / "empty.csv", GOOD, '"', *[""] * LONGEST_RECORD_CHARACTERS, '"'
    )
    assert imported(empty).first_rejections[0].line == 3


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (f"{HEADER}\n{GOOD}\ndata,a,2026-11-15T21:00:00Z,31", {}),
        (f"{HEADER}\n{GOOD}\n{HIDDEN}", {}),
        (f"{HEADER}\n{GOOD}\n{HIDDEN}\r", {}),
        (f'{WITH_NOTE}\nx,{GOOD}\n"a\nnote",{HIDDEN}', {}),
        (f'{WITH_NOTE}\nx,{GOOD}\n"a note', {}),
        (f'{WITH_NOTE}\nx,{GOOD}\n"a"note,{HIDDEN}', {}),
        (f"{WITH_NOTE}\nx,{GOOD}\na\rnote,{HIDDEN}", {}),
        (
            f"{call('15/11/2026 21:00:00', '15/11/2026 21:00:00', '300')}\n"
            f"{call('15/11/2026 21:00:00', '15/11/2026 21:00:00', '31')}",
            {"format": "calls"},
        ),
    ],
)
def test_a_last_line_without_an_end_is_rejected(
    directory: Path, content: str, options: dict[str, Any]
) -> None:
    """Fails when 31, truncated from 315.0, is added."""
    path = directory / "usage.csv"
    path.write_text(content)
    if options:
        options["zone"] = "UTC"
    report = imported(path, **options)
    assert counts(report) == (2, 1, 0, 1)
    assert report.first_rejections[0].reason == NO_LINE_END
    assert [float(price) for price in prices()] == [3]
    assert report.rejects is not None
    # So an import of the file of rejected lines rejects the line again.
    assert not report.rejects.read_text().endswith("\n")


def test_complete_accepts_a_last_line_without_an_end(directory: Path) -> None:
    path = directory / "usage.csv"
    path.write_text(f"{HEADER}\n{GOOD}\n{HIDDEN}")
    assert counts(imported(path, complete=True)) == (2, 2, 0, 0)
    path.write_text(f'{WITH_NOTE}\n"a\nnote",{HIDDEN.replace("k2", "k3")}')
    assert counts(imported(path, complete=True)) == (1, 1, 0, 0)
    path.write_text(HEADER)
    assert counts(imported(path)) == (0, 0, 0, 0)
    path.write_text(f"{HEADER}\n{GOOD}\n  ")
    assert imported(path).rejected == 0


def test_standard_input_from_zcat_of_a_truncated_file(directory: Path) -> None:
    data = gzip.compress(f"{HEADER}\n{GOOD}\n{HIDDEN}\n".encode(), 0)
    (directory / "usage.csv.gz").write_bytes(data[:-20])
    zcat = subprocess.Popen(
        ["zcat", "usage.csv.gz"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert zcat.stdout is not None
    process = start_command("import_usage", "-", cwd=directory, stdin=zcat.stdout.fileno())
    ((code, output, _),) = finished([process])
    zcat.communicate()
    assert code == 1
    assert "1 added, 0 already known, 0 differing, 1 rejected" in output
    assert f"  line 3: {NO_LINE_END}\n" in output
    assert prices() == ["3"]


def test_quoted_names_of_columns_are_read_as_csv(directory: Path) -> None:
    quoted = '"' + '","'.join(HEADER.split(",")) + '","a ""note"", with\nlines"'
    path = write(directory / "usage.csv", quoted, f"{GOOD},x")
    assert counts(imported(path)) == (1, 1, 0, 0)
