"""Every time zone at its clock changes: no day is lost or doubled."""

import zoneinfo
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, so named

from tests.connections import ask, run_sql, second_session, wait_until
from tests.exact import Rows
from tests.faults.trials import Trials
from tests.faults.zone_days import DAY, TICK, Clock
from tests.processes import database_url, run, scratch_database
from tests.usage.importing import write_records
from tests.zones import cut_days_in

Manage = Callable[..., str]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# PostgreSQL reads these names as abbreviations without summer time, so migrate refuses them.
ABBREVIATIONS = {"CET", "EET", "MET", "WET"}

# For each moment: its day, whether the bounds of that day include it, and the server's offset.
DAYS_OF = """
    SELECT
        usage_day(moment),
        moment >= usage_day_start(usage_day(moment)) AND moment < usage_day_end(usage_day(moment)),
        moment AT TIME ZONE %(zone)s - moment AT TIME ZONE 'UTC'
    FROM unnest(%(ticks)s::bigint[]) WITH ORDINALITY AS input (tick, place)
    CROSS JOIN LATERAL (
        SELECT timestamptz 'epoch' + tick * interval '1 microsecond' AS moment
    ) AS moments
    ORDER BY place
"""
BOUNDS_OF = """
    SELECT
        usage_day_start(day),
        usage_day_end(day),
        usage_day_start(day + 1)
    FROM unnest(%s::date[]) WITH ORDINALITY AS input (day, place)
    ORDER BY place
"""
TOTALS = """
    SELECT day, usage_type, total_price, total_usage, record_count, last_usage_at
    FROM usage_daily ORDER BY day, usage_type
"""

LEAVES = """
    SELECT relid::text
    FROM (VALUES ('usage_datausagerecord'), ('usage_voiceusagerecord')) AS raw (name)
    CROSS JOIN LATERAL pg_partition_tree(name::regclass)
    WHERE isleaf
"""


def known_zones() -> tuple[list[str], list[str]]:
    """Return the zones that a deployment may choose, and those that migrate refuses."""
    by_server = {name for (name,) in run_sql("SELECT name FROM pg_timezone_names")}
    by_python = zoneinfo.available_timezones()
    return sorted((by_python & by_server) - ABBREVIATIONS), sorted(by_python - by_server)


def faults_of(clock: Clock, days: list[date], trials: Trials) -> Iterator[str]:
    """Yield the faults of the moments and bounds of these days, except days on which the zone data
    of the server and of Python differ."""
    moments = sorted({moment for day in days for moment in clock.moments(day)})
    ticks = [(moment - EPOCH) // TICK for moment in moments]
    differing = set()
    rows = run_sql(DAYS_OF, {"zone": clock.name, "ticks": ticks})
    for moment, (day, is_found, offset) in zip(moments, rows, strict=True):
        if offset != clock.offset(moment):
            differing |= {clock.day(moment) + shift * DAY for shift in (-1, 0, 1)}
        elif day != clock.day(moment):
            yield f"{clock.name}: {moment} is of {day}, not of {clock.day(moment)}"
        elif not is_found:
            yield f"{clock.name}: {moment} lies outside the bounds of {day}"
    alike = [day for day in days if day not in differing]
    for day, bounds in zip(alike, run_sql(BOUNDS_OF, [alike]), strict=True):
        yield from wrong_bounds(clock, day, *bounds)
    trials.count("days", len(alike))
    trials.count("moments", len(moments))
    trials.count("days of other zone data", len(days) - len(alike))


def wrong_bounds(
    clock: Clock, day: date, start: datetime, end: datetime, next_start: datetime
) -> Iterator[str]:
    spans = clock.spans(day)
    if spans and start != spans[0][0]:
        yield f"{clock.name}: {day} begins at {start}, not at {spans[0][0]}"
    # Bounds may be too wide, since usage_day() decides, but at most by a clock change.
    if spans and not spans[-1][1] <= end <= spans[-1][1] + timedelta(hours=3):
        yield f"{clock.name}: {day} ends at {end}, not at {spans[-1][1]}"
    if not spans and start < end:
        yield f"{clock.name}: {day}, which the zone skipped, has hours"
    if start > next_start:
        yield f"{clock.name}: the partitions of {day} and of the next day overlap"


@pytest.mark.django_db
def test_no_day_of_any_zone_is_lost_or_doubled(trials: Trials) -> None:
    """usage_day() and the bounds of days agree with Python's zoneinfo to the microsecond.

    PostgreSQL and Python may have different releases of the zone data. A day on which their offsets
    differ is counted apart; such days must be few. Fails when a day begins at
    day::timestamp AT TIME ZONE zone, the second of two midnights, or ends 24 hours after its start.
    """
    zones, unknown = known_zones()
    assert len(zones) > 400, unknown
    first, end = (2000, 2038) if trials.full else (2026, 2027)
    faults: list[str] = []
    for number in trials.of("zones", short=len(zones), full=len(zones)):
        clock = Clock(zones[number], date(first, 1, 1), date(end, 1, 1))
        cut_days_in(clock.name)
        faults += faults_of(clock, clock.days_to_try(), trials)
    assert not faults, f"{len(faults)} faults, the first: {faults[:10]}"
    assert trials.counts["zones"] == len(zones), "time was up"
    assert trials.counts["days of other zone data"] < trials.counts["days"] / 50


# A zone and a year for each case: midnight comes twice or never, a day begins twice, clocks change
# by half an hour, by three hours, or for Ramadan, the zone skips a day, or its clocks never change.
REBUILT = [
    ("America/St_Johns", 2010),
    ("Pacific/Apia", 2011),
    ("Atlantic/Azores", 2025),
    ("America/Havana", 2025),
    ("Antarctica/Casey", 2010),
    ("Asia/Beirut", 2025),
    ("America/Sao_Paulo", 2018),
    ("Africa/Casablanca", 2025),
    ("Australia/Lord_Howe", 2025),
    ("Asia/Kathmandu", 2025),
]


def write_usage(path: Path, clock: Clock) -> tuple[int, Rows]:
    """Write records at the moments of the days to try; return their number and their totals."""
    totals: dict[tuple[date, str], list[Any]] = {}
    moments = sorted({moment for day in clock.days_to_try() for moment in clock.moments(day)})
    lines = []
    for number, moment in enumerate(moments):
        usage_type = ("data", "voice")[number % 2]
        lines.append(f"{usage_type},s,{moment.isoformat()},0.00000001,{number},k{number}")
        total = totals.setdefault((clock.day(moment), usage_type), [Decimal(0), 0, 0, moment])
        total[:] = [total[0] + Decimal("0.00000001"), total[1] + number, total[2] + 1, moment]
    write_records(path, *lines)
    return len(lines), [(day, kind, *total) for (day, kind), total in sorted(totals.items())]


@pytest.mark.django_db
def test_totals_of_whole_years_of_a_zone_are_sealed_and_rebuilt(
    trials: Trials, tmp_path: Path
) -> None:
    """An operator's commands seal and rebuild the days, in a database that cuts days in the zone.

    Fails when the bounds of a day leave out records before its second midnight.
    """
    for number in trials.of("zones rebuilt", short=1, full=len(REBUILT)):
        name, year = REBUILT[number]
        path = tmp_path / "usage.csv"
        records, expected = write_usage(path, Clock(name, date(year, 1, 1), date(year + 1, 1, 1)))
        first, last = expected[0][0], expected[-1][0]
        with scratch_database() as database:
            manage = partial(manage_in_zone, database, name)
            with second_session(dbname=database, autocommit=True) as session:
                manage("migrate")
                assert f" {records:,} added" in manage("import_usage", str(path))

                def seal_ends(
                    manage: Manage = manage, session: Connection = session, last: date = last
                ) -> bool:
                    manage("refresh_usage")
                    ((sealed_before,),) = ask(session, "SELECT sealed_before FROM usage_state")
                    return sealed_before is not None and sealed_before > last

                wait_until(seal_ends, seconds=60, what="the seal")
                assert ask(session, TOTALS) == expected
                # Triggers don't see writes to a partition itself.
                for (leaf,) in ask(session, LEAVES):
                    ask(session, f"UPDATE {leaf} SET price = price + 1")
                assert ask(session, TOTALS) == expected
                expected = [
                    (*key, price + count, usage, count, at)
                    for *key, price, usage, count, at in expected
                ]
                manage("rebuild_usage", "--from", f"{first}", "--to", f"{last}")
                assert ask(session, TOTALS) == expected
                assert ask(session, TOTALS.replace("usage_daily", "usage_daily_live")) == expected
                manage("verify_usage")
        trials.count("totals rebuilt", len(expected))


def manage_in_zone(database: str, zone: str, *arguments: str) -> str:
    """Run a command on a database that cuts days in the zone; return its output."""
    done = run(
        "manage.py",
        *arguments,
        DATABASE_URL=database_url(database),
        USAGE_TIME_ZONE=zone,
        USAGE_OPEN_DAYS="2",
        USAGE_RAW_RETENTION_DAYS="36500",
    )
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout
