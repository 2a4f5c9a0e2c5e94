"""Zone data of PostgreSQL and of Python: imports use that of PostgreSQL, and checks name
differences."""

import json
import zoneinfo
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command

from tests.connections import run_sql
from tests.faults.zone_days import Clock
from tests.processes import database_url, run, scratch_database
from tests.usage.importing import imported, stored, write, write_records
from usage import checks
from usage.database import zones
from usage.database.zones import server_zone, zone_differences
from usage.errors import ImportFileError
from usage.services.raw import clock, zone_data
from usage.services.raw.zone_data import differences_in_kept_days

pytestmark = pytest.mark.usefixtures("directory", "only_default_partitions")

FIRST, END = datetime(2000, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
SUMMER, WINTER = (timedelta(hours=1), timedelta(0))
# The begin and end of summer time 2026 in London, in UTC.
MARCH, OCTOBER = datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)
ZONES = [
    *(
        "Europe/London",
        "America/Havana",
        "Atlantic/Azores",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
    ),
    *("Pacific/Apia", "America/Vancouver", "Africa/Casablanca", "Antarctica/Casey", "UTC", "EST"),
    "America/Boa_Vista",
]


@pytest.fixture
def london_without_summer(directory: Path) -> Iterator[None]:
    """Give Python zone data for London without summer time in 2026."""
    clock_of_london = Clock("Europe/London", date(2000, 1, 1), date(2030, 1, 1))
    changes = [
        (int(moment.timestamp()), int(clock_of_london.offset(moment).total_seconds()))
        for moment in clock_of_london.changes
        if moment not in {MARCH, OCTOBER}
    ]
    path = directory / "zones" / "Europe" / "London"
    path.parent.mkdir(parents=True)
    path.write_bytes(zones.zone_file([(0, 0), *changes]))
    zoneinfo.reset_tzpath([path.parents[1], *zoneinfo.TZPATH])
    zoneinfo.ZoneInfo.clear_cache()
    try:
        assert MARCH.astimezone(zoneinfo.ZoneInfo("Europe/London")).utcoffset() == WINTER
        yield
    finally:
        zoneinfo.reset_tzpath()
        zoneinfo.ZoneInfo.clear_cache()


@pytest.mark.parametrize("name", ZONES)
def test_offsets_are_those_of_postgresql(name: str) -> None:
    """Compare them at each change, to the second, and on each day of the year 2000, in which
    America/Boa_Vista had summer time for a week."""
    zone = server_zone(name, FIRST, END)
    changes = Clock(name, date(2000, 1, 2), date(2027, 12, 1)).changes
    moments = [
        change + timedelta(seconds=seconds)
        for change in [FIRST, *changes, END]
        for seconds in (-86_400 * 40, -3_600, -1, 0, 1, 3_600)
        if FIRST <= change + timedelta(seconds=seconds) <= END
    ] + [FIRST + timedelta(days=day) for day in range(366)]
    rows = run_sql(
        "SELECT moment AT TIME ZONE %s FROM unnest(%s::timestamptz[]) WITH ORDINALITY"
        " AS moments (moment, place) ORDER BY place",
        [name, moments],
    )
    assert [moment.astimezone(zone).replace(tzinfo=None) for moment in moments] == [
        local for (local,) in rows
    ]


@pytest.mark.usefixtures("london_without_summer")
def test_local_times_are_read_with_the_zone_data_that_cuts_days(directory: Path) -> None:
    """Fails when Python's zone data decides about 23:30: the record then counts on another day."""
    path = write_records(
        directory / "usage.csv",
        "data,a,2026-07-01 23:30,1,1,summer",
        "data,a,2026-12-01 12:00,2,1,winter",
        "data,a,2026-10-25 01:30,3,1,twice",
        "data,a,2026-03-29 01:30,4,1,never",
    )
    report = imported(path, zone="Europe/London")
    assert [(row[2], row[3]) for row in stored()] == [
        ("2026-07-01 22:30:00.000", "1"),
        ("2026-10-25 00:30:00.000", "3"),
        ("2026-12-01 12:00:00.000", "2"),
    ]
    assert [(line, reason) for line, reason, _ in report.first_rejections] == [
        (5, "2026-03-29 01:30:00 does not exist in Europe/London: clocks went forward over it")
    ]
    calls = write(
        directory / "calls.csv", "1,01,1,02,25/10/2026,25/10/2026,01:50:00,01:10:00,Local,10"
    )
    assert imported(calls, format="calls", zone="Europe/London").added == 1
    assert stored()[-2][2:] == ("2026-10-25 00:50:00.000", "0.10", 1_200)


@pytest.mark.parametrize(
    ("zone", "reason"),
    [
        ("CET", "PostgreSQL reads --zone CET as an abbreviation without summer time"),
        ("Mars/Olympus", "PostgreSQL does not know the zone --zone Mars/Olympus"),
    ],
)
def test_a_zone_that_postgresql_reads_differently_is_refused(
    directory: Path, zone: str, reason: str
) -> None:
    path = write_records(directory / "usage.csv", "data,a,2026-07-01 23:30,1,1,k")
    with pytest.raises(ImportFileError) as refused:
        imported(path, zone=zone)
    assert reason in str(refused.value)
    assert "Name a zone by one of its places, such as Europe/Brussels." in str(refused.value)


@pytest.mark.usefixtures("london_without_summer")
def test_differences_are_named_with_their_dates() -> None:
    assert list(
        map(str, zone_differences("Europe/London", date(2025, 1, 1), date(2026, 12, 31)))
    ) == [
        "Europe/London from 2026-03-29 01:00 to 2026-10-25 01:00 UTC: +01:00 in PostgreSQL, which"
        " cuts the days, +00:00 in Python"
    ]
    (within,) = zone_differences("Europe/London", date(2026, 7, 1), date(2026, 7, 2))
    assert (within.start, within.end) == (
        datetime(2026, 7, 1, tzinfo=UTC),
        datetime(2026, 7, 3, tzinfo=UTC),
    )
    assert (within.server, within.python) == (SUMMER, WINTER)
    assert zone_differences("Europe/London", date(2025, 1, 1), date(2026, 3, 28)) == []
    assert zone_differences("UTC", date(2000, 1, 1), date(2099, 1, 1)) == []


@pytest.mark.usefixtures("london_without_summer")
@pytest.mark.parametrize(
    ("today", "raw_kept_from", "is_named"),
    [
        (date(2026, 12, 1), date(2026, 10, 24), True),
        (date(2026, 12, 1), date(2026, 10, 27), False),
        (date(2025, 3, 27), None, False),
        (date(2025, 3, 30), None, True),
    ],
)
def test_check_and_status_name_differences_in_kept_days_and_the_next_year(
    today: date, raw_kept_from: date | None, is_named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a difference between the zone data of PostgreSQL and of Python is not reported."""
    monkeypatch.setattr(clock, "today", lambda: today)
    run_sql(
        "UPDATE usage_state SET time_zone = 'Europe/London', raw_kept_from = %s", [raw_kept_from]
    )
    warnings = checks.zone_data_agrees(["default"])
    status = output_of("usage_status")
    in_json = json.loads(output_of("usage_status", "--json"))["zone_data_differences"]
    if is_named:
        (warning,) = warnings
        (difference,) = in_json
        assert warning.id == "usage.W006"
        assert difference.startswith("Europe/London from 2026-")
        assert difference in warning.msg
        assert f"zone data     differs for {difference}\n" in status
    else:
        assert (warnings, in_json) == ([], [])
        assert "zone data" not in status


def output_of(*command: str) -> str:
    """Return what a command prints; it may exit 1 because the totals are too old."""
    output = StringIO()
    with suppress(SystemExit):
        call_command(*command, stdout=output)
    return output.getvalue()


def test_the_check_is_silent_without_a_database_and_for_a_misread_zone() -> None:
    assert checks.zone_data_agrees(None) == []
    run_sql("UPDATE usage_state SET time_zone = 'CET'")
    assert checks.zone_data_agrees(["default"]) == []


def test_a_database_of_an_older_release_is_migrated() -> None:
    """Fails when the check reads a column that a later migration makes."""
    with scratch_database() as name:
        environment = {"DATABASE_URL": database_url(name)}
        for target in (["usage", "0002"], []):
            done = run("manage.py", "migrate", *target, **environment)
            assert done.returncode == 0, done.stderr


def test_the_earliest_partition_begins_the_kept_days(directory: Path) -> None:
    """Fails when differences in kept days are ignored."""
    run_sql("UPDATE usage_state SET time_zone = 'America/Vancouver'")
    path = write_records(directory / "usage.csv", "data,a,2026-02-03T12:00Z,1,1,k")
    spans: list[tuple[date, date]] = []

    def remember(_: str, first: date, end: date) -> list[zones.ZoneDifference]:
        spans.append((first, end))
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "today", lambda: date(2026, 11, 30))
        patch.setattr(zone_data, "zone_differences", remember)
        differences_in_kept_days()
        imported(path)
        differences_in_kept_days()
    assert spans == [
        (date(2026, 11, 30), date(2027, 12, 1)),
        (date(2026, 2, 3), date(2027, 12, 1)),
    ]
