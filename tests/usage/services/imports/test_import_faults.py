"""Lines and files that cannot be imported: the messages, and what is written anyway."""

import gzip
import os
import stat
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.connections import run_sql
from tests.usage.importing import (
    HEADER,
    counts,
    imported,
    stored,
    stored_count,
    write,
    write_records,
)
from usage.errors import ImportFileError
from usage.models import LateKeysMode, Subscription
from usage.services.imports import Importer, ImportOptions

pytestmark = pytest.mark.usefixtures("directory", "only_default_partitions")

GOOD = "data,a,2026-11-15T21:00:00Z,1,1,k"
PRICE = "is not a plain decimal number with at most 12 digits before the point and 8 behind it"
QUANTITY = "is not a whole number from 0 to 4294967296"
MOMENT = "is not a moment such as 2026-11-15T21:00:00+00:00"


@pytest.mark.one_server("it counts records already known as added")
def test_rejected_lines_go_to_a_file_that_can_be_mended_and_imported(directory: Path) -> None:
    path = write_records(
        directory / "usage.csv",
        GOOD,
        "data,a,2026-11-15T21:00:00Z,free,1,k2",
        '"voice","b, c",2026-11-15T21:00:00Z,1,"1,5",k3',
    )
    report = imported(path)
    rejects = directory / "usage.csv.rejects"
    assert report.rejects == rejects
    assert rejects.read_text() == (
        f"line_number,reason,{HEADER}\n"
        f"3,price 'free' {PRICE},data,a,2026-11-15T21:00:00Z,free,1,k2\n"
        f"4,\"quantity '1,5' {QUANTITY}\","
        '"voice","b, c",2026-11-15T21:00:00Z,1,"1,5",k3\n'
    )
    assert stat.S_IMODE(rejects.stat().st_mode) == 0o600
    rejects.write_text(rejects.read_text().replace(",free,", ",0,").replace(',"1,5",', ",1,"))
    assert counts(imported(rejects)) == (2, 2, 0, 0)
    path.write_text(path.read_text().replace(",free,", ",0,").replace(',"1,5",', ",1,"))
    assert counts(imported(path)) == (3, 0, 3, 0)
    assert ("voice", "b, c", "2026-11-15 21:00:00.000", "1", 1) in stored()


def test_the_file_of_rejects_is_made_only_when_needed(directory: Path) -> None:
    assert imported(write_records(directory / "usage.csv", GOOD)).rejects is None
    assert not (directory / "usage.csv.rejects").exists()
    chosen = directory / "elsewhere.csv"
    imported(write_records(directory / "usage.csv", GOOD, "bad"), rejects=chosen)
    assert chosen.read_text() == f"line_number,reason,{HEADER}\n3,1 columns instead of 6,bad\n"
    assert stat.S_IMODE(chosen.stat().st_mode) == 0o600


def test_only_the_first_rejections_are_kept_in_memory(directory: Path) -> None:
    report = imported(write_records(directory / "usage.csv", *["bad"] * 100))
    assert counts(report) == (100, 0, 0, 100)
    assert [line for line, _, _ in report.first_rejections] == list(range(2, 12))
    assert len((directory / "usage.csv.rejects").read_text().splitlines()) == 101


@pytest.mark.one_server("no record comes late there")
def test_lines_the_database_refuses_are_rejected_with_its_reason(directory: Path) -> None:
    kept_from = (date(2026, 11, 2) - date(1999, 12, 31)).days
    run_sql("SELECT setval('usage_logging_before', %s)", [kept_from])
    run_sql("SELECT setval('usage_raw_kept_from', %s)", [kept_from])
    report = imported(
        write_records(
            directory / "usage.csv",
            "data,a,2026-11-01T12:00:00Z,1,1,k1",
            "data,a,2026-11-02T12:00:00Z,2,1,k2",
            "voice,a,2026-11-02T12:00:00Z,3,1,k3",
            "voice,a,2026-11-02T12:00:00Z,3,1,k3",
            "data,a,nonsense,1,1,k4",
            "voice,a,2026-10-31T12:00:00Z,4,1,k5",
        )
    )
    assert counts(report) == (6, 2, 1, 3)
    assert [(line, reason) for line, reason, _ in report.first_rejections] == [
        (2, "the day 2026-11-01 is closed: raw records are kept from 2026-11-02"),
        (6, f"usage_date 'nonsense' {MOMENT}"),
        (7, "the day 2026-10-31 is closed: raw records are kept from 2026-11-02"),
    ]
    assert [row[:4] for row in stored()] == [
        ("data", "a", "2026-11-02 12:00:00.000", "2"),
        ("voice", "a", "2026-11-02 12:00:00.000", "3"),
    ]


def test_lines_of_closed_days_are_rejected_in_a_window(
    directory: Path, switch_to: Callable[[LateKeysMode], None]
) -> None:
    """Fails when the reason of a rejected line is only the name of a constraint."""
    switch_to(LateKeysMode.WINDOW)
    run_sql("SELECT usage_close_days('2026-11-02')")
    report = imported(
        write_records(
            directory / "usage.csv",
            "data,a,2026-11-01T12:00:00Z,1,1,k1",
            "data,a,2026-11-02T12:00:00Z,2,1,k2",
        )
    )
    run_sql("SELECT usage_close_days(NULL)")
    assert [(line, reason) for line, reason, _ in report.first_rejections] == [
        (2, "the day is closed: raw records are kept from 2026-11-02"),
    ]


GZIPPED = gzip.compress(f"{HEADER}\n{GOOD}\n".encode(), mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "options", "reason"),
    [
        ("usage.csv", b"", {}, "line 1 must name each column once"),
        (
            "usage.csv",
            b"usage_type,external_id,usage_date,price,quantity\n",
            {},
            "Missing: record_key",
        ),
        ("usage.csv", HEADER.encode() + b",price\n", {}, "Named twice: price"),
        ("usage.csv", HEADER.replace(",", ";").encode(), {}, "Missing: usage_type, external_id"),
        ("usage.csv", HEADER.encode() + b"\n\xff\n", {}, "not a text file: line 2 is not UTF-8"),
        ("usage.csv", HEADER.encode() + b"\na\nb\0\n", {}, "line 3 has a NUL byte"),
        ("usage.csv", HEADER.encode("utf-16"), {}, "line 1 is not UTF-8"),
        ("usage.csv", b"\x7fELF\x02\x01\x01\0\0\0", {}, "line 1 has a NUL byte"),
        ("usage.csv", b"x" * 2_000_000, {}, "line 1 is longer than 65536 bytes"),
        ("usage.csv.gz", HEADER.encode(), {}, "not gzip although its name ends in .gz"),
        ("usage.csv.gz", GZIPPED[:30], {}, "gzip data is damaged or cut off at or after line 1"),
        ("usage.csv.gz", GZIPPED[:-4], {}, "gzip data is damaged or cut off"),
        ("usage.csv", HEADER.encode(), {"format": "xml"}, "'xml' is not a format. Use one of: rec"),
        ("calls.csv", b"", {"format": "calls"}, "name their time zone with --zone"),
        ("missing", None, {}, "missing cannot be read: No such file or directory"),
        (".", None, {}, "cannot be read: Is a directory"),
    ],
)
def test_a_file_that_cannot_be_imported_stops_before_anything_is_written(
    directory: Path, name: str, content: bytes | None, options: dict[str, Any], reason: str
) -> None:
    path = directory / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImportFileError) as stopped:
        imported(path, **options)
    assert reason in str(stopped.value)
    assert str(stopped.value).endswith("Nothing was written.")
    assert stored_count() == 0
    assert Subscription.objects.count() == 0


def test_every_file_is_checked_before_the_first_is_imported(directory: Path) -> None:
    good = str(write_records(directory / "good.csv", GOOD))
    bad = str(write(directory / "bad.csv", "a,b"))
    with pytest.raises(ImportFileError, match=r"bad.csv: line 1 must name each column"):
        Importer(ImportOptions()).check([good, bad])
    with pytest.raises(ImportFileError, match="Standard input can be read only once"):
        Importer(ImportOptions()).check(["-", "-"])
    with pytest.raises(ImportFileError, match=r"good\.csv exists\. Give --rejects a path where"):
        Importer(ImportOptions(rejects=Path(good))).check([good])
    os.mkfifo(directory / "pipe")
    with pytest.raises(ImportFileError, match=r"pipe is a pipe\. Name the source of its records"):
        Importer(ImportOptions()).check([str(directory / "pipe")])
    Importer(ImportOptions(source="network a")).check([str(directory / "pipe")])
    with pytest.raises(ImportFileError, match="takes the lines of one file"):
        Importer(ImportOptions(rejects=directory / "rejects")).check([good, bad])
    with pytest.raises(ImportFileError, match="The file of rejected lines cannot be made in"):
        Importer(ImportOptions(rejects=directory / "no" / "rejects")).check([good])
