"""The days of records: the limit of future records, and the days that an import names."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from tests.usage.importing import counts, imported, stored_count, write, write_records
from usage.services.imports.report import ImportReport
from usage.services.raw import clock

pytestmark = pytest.mark.usefixtures("directory", "only_default_partitions")

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)


def line(moment: datetime | str, key: str = "k") -> str:
    return f"data,a,{moment if isinstance(moment, str) else moment.isoformat()},1,1,{key}"


@pytest.mark.parametrize("future", [0, 1, 30])
def test_records_further_ahead_are_rejected_with_the_limit(directory: Path, future: int) -> None:
    """Fails when a record of 2099 is added silently."""
    last = NOW + timedelta(days=future)
    path = write_records(
        directory / "usage.csv",
        line(last - timedelta(seconds=1)),
        line(last),
        line("2099-01-01T00:00Z"),
    )
    report = imported(path, future=future)
    assert counts(report) == (3, 1, 0, 2)
    days = "1 day" if future == 1 else f"{future} days"
    why = f"is more than {days} ahead: correct it, or allow more days with --future"
    assert [(number, reason) for number, reason, _ in report.first_rejections] == [
        (3, f"usage_date '{last.isoformat()}' {why}"),
        (4, f"usage_date '2099-01-01T00:00Z' {why}"),
    ]
    assert stored_count() == 1


def test_the_limit_applies_to_local_times_and_call_records(directory: Path) -> None:
    path = write_records(
        directory / "usage.csv", line("2026-12-01 13:59"), line("2026-12-01 14:00")
    )
    report = imported(path, zone="Europe/Athens", future=1)
    assert counts(report) == (2, 1, 0, 1)
    calls = write(
        directory / "calls.csv",
        "1,01,1,02,01/12/2026,01/12/2026,13:58:00,13:59:59,Local,10",
        "2,01,1,02,01/12/2026,01/12/2026,13:58:00,14:00:00,Local,10",
    )
    report = imported(calls, format="calls", zone="Europe/Athens", future=1)
    assert counts(report) == (2, 1, 0, 1)
    assert report.first_rejections[0].reason == (
        "01/12/2026 14:00:00 is more than 1 day ahead: correct it, or allow more days with --future"
    )


def test_2100_is_the_limit_for_every_number_of_days(directory: Path) -> None:
    path = write_records(directory / "usage.csv", line("2100-01-01T00:00Z"))
    report = imported(path, future=36_500)
    assert report.first_rejections[0].reason.endswith("is not from 2000 up to 2100")


@pytest.mark.one_server("it counts records already known as added")
def test_the_days_are_those_of_records_that_were_added(directory: Path) -> None:
    """Fails when old days are added silently, or the days of known records are named."""
    kept = [line(f"2026-11-0{day}T12:00Z") for day in (1, 2, 3)]
    path = write_records(directory / "usage.csv", *kept)
    assert imported(path).touched() == "It touched 3 days: 2026-11-01 to 2026-11-03."
    assert imported(path).touched() == "It touched no day."
    write_records(directory / "usage.csv", *kept, line("2001-02-03T12:00Z"), "bad")
    assert imported(path, dry_run=True).touched() == "It would touch 1 day: 2001-02-03."
    assert imported(path).touched() == "It touched 1 day: 2001-02-03."


def test_many_days_are_named_by_their_ranges() -> None:
    first = date(2026, 1, 1)
    every_other = {first + timedelta(2 * number) for number in range(40)}
    report = ImportReport("usage.csv", days=every_other)
    assert report.touched() == (
        "It touched 40 days: 2026-01-01, 2026-01-03, 2026-01-05, 2026-01-07, 2026-01-09,"
        " 2026-01-11, 2026-01-13, 2026-01-15, 2026-01-17, 31 ranges more, the last 2026-03-20."
    )
    ten = ImportReport("usage.csv", days=set(sorted(every_other)[:10]))
    assert ten.touched().endswith("2026-01-17, 2026-01-19.")
