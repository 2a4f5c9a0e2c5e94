"""The bounds of days, in ordinary zones and in zones with two midnights or none."""

import zoneinfo
from collections.abc import Callable

import pytest

from tests import zones
from tests.connections import run_sql

pytestmark = pytest.mark.django_db

CutDays = Callable[[str], None]

FIND_OFFSET_CHANGES = """
WITH RECURSIVE steps AS (
    SELECT
        zone,
        step,
        step AT TIME ZONE zone - step AT TIME ZONE 'UTC' AS utc_offset
    FROM
        unnest(%s) AS zones (zone),
        generate_series(
            '1999-12-25 00:00+00'::timestamptz, '2041-01-05 00:00+00', interval '96 hours'
        ) AS steps (step)
),

pairs AS (
    SELECT
        zone,
        step AS after,
        utc_offset AS new_offset,
        lag(step) OVER zone_steps AS before,
        lag(utc_offset) OVER zone_steps AS old_offset
    FROM steps
    WINDOW zone_steps AS (PARTITION BY zone ORDER BY step)
),

halved AS (
    SELECT zone, before, after, old_offset, new_offset
    FROM pairs
    WHERE old_offset <> new_offset
    UNION ALL
    SELECT
        zone,
        CASE WHEN is_old THEN middle ELSE before END,
        CASE WHEN is_old THEN after ELSE middle END,
        old_offset,
        new_offset
    FROM
        halved,
        LATERAL (
            SELECT date_trunc('second', before + (after - before) / 2) AS middle
        ) AS middles,
        LATERAL (
            SELECT middle AT TIME ZONE zone - middle AT TIME ZONE 'UTC' = old_offset AS is_old
        ) AS sides
    WHERE after - before > interval '1 second'
)

SELECT zone, after, old_offset, new_offset
FROM halved
WHERE after - before = interval '1 second'
ORDER BY zone, after
"""

# A day can begin or end only at midnight in one of the offsets of the zone, or where the offset
# changes. The query tries all of these moments, so it finds the true bounds without
# usage_day_start() and usage_day_end().
FIND_WRONG_BOUNDS = """
WITH changes AS (
    SELECT moment FROM unnest(%(moments)s::timestamptz[]) AS moments (moment)
),

days AS (
    SELECT DISTINCT usage_day(moment) + shift AS day
    FROM changes, generate_series(-2, 2) AS shifts (shift)
    UNION
    SELECT date '2026-11-02'
),

candidates AS (
    SELECT
        days.day,
        (day + next)::timestamp AT TIME ZONE 'UTC' - utc_offset AS moment
    FROM
        days,
        unnest(%(offsets)s::interval[]) AS offsets (utc_offset),
        generate_series(0, 1) AS nexts (next)
    UNION
    SELECT days.day, changes.moment
    FROM days INNER JOIN changes
    ON changes.moment BETWEEN days.day - interval '3 days' AND days.day + interval '3 days'
),

true_bounds AS (
    SELECT
        day,
        min(moment) FILTER (WHERE usage_day(moment) = day) AS first_moment,
        max(moment) FILTER (WHERE usage_day(moment - interval '1 microsecond') = day)
            AS after_last_moment
    FROM candidates
    GROUP BY day
)

SELECT day, first_moment, after_last_moment, usage_day_start(day), usage_day_end(day)
FROM true_bounds
WHERE CASE
    WHEN first_moment IS NULL THEN
        usage_day_start(day) < usage_day_end(day)
    ELSE
        usage_day_start(day) IS DISTINCT FROM first_moment
        OR usage_day(first_moment - interval '1 microsecond') = day
        OR usage_day_end(day) < after_last_moment
        OR usage_day_end(day) > after_last_moment + interval '3 hours'
END
    OR usage_day_start(day) > usage_day_start(day + 1)
ORDER BY day
"""


@pytest.fixture
def cut_days_in(db: None) -> CutDays:
    return zones.cut_days_in


def day_of(moment: str) -> str:
    return run_sql("SELECT usage_day(%s)::text", [moment])[0][0]


def bounds_of(day: str) -> tuple[str, str]:
    """Return the results of usage_day_start() and usage_day_end(), in UTC."""
    utc = "to_char({}(%s) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')"
    return run_sql(
        f"SELECT {utc.format('usage_day_start')}, {utc.format('usage_day_end')}",
        [day, day],
    )[0]


def test_days_are_cut_in_utc_unless_a_zone_is_chosen(cut_days_in: CutDays) -> None:
    cut_days_in("")
    assert day_of("2026-11-01 23:59:59.999999+00") == "2026-11-01"
    assert day_of("2026-11-02 00:00+00") == "2026-11-02"
    assert bounds_of("2026-11-02") == ("2026-11-02 00:00", "2026-11-03 00:00")


def test_zone_of_the_session_does_not_matter(cut_days_in: CutDays) -> None:
    cut_days_in("Asia/Tokyo")
    run_sql("SET LOCAL TIME ZONE 'America/New_York'")
    assert day_of("2026-11-01 14:59:59+00") == "2026-11-01"
    assert day_of("2026-11-01 15:00+00") == "2026-11-02"
    assert bounds_of("2026-11-02") == ("2026-11-01 15:00", "2026-11-02 15:00")


def test_day_is_shorter_or_longer_when_clocks_change(cut_days_in: CutDays) -> None:
    cut_days_in("Europe/London")
    assert bounds_of("2026-03-29") == ("2026-03-29 00:00", "2026-03-29 23:00")
    assert bounds_of("2026-03-30") == ("2026-03-29 23:00", "2026-03-30 23:00")
    assert bounds_of("2026-10-25") == ("2026-10-24 23:00", "2026-10-26 00:00")


def test_day_begins_late_when_clocks_leap_over_midnight(cut_days_in: CutDays) -> None:
    """In Beirut clocks go from 24:00 to 01:00, so the day has no midnight."""
    cut_days_in("Asia/Beirut")
    assert bounds_of("2026-03-29") == ("2026-03-28 22:00", "2026-03-29 21:00")
    assert day_of("2026-03-28 21:59:59+00") == "2026-03-28"
    assert day_of("2026-03-28 22:00+00") == "2026-03-29"


@pytest.mark.parametrize(
    ("zone", "day", "first_midnight", "second_midnight"),
    [
        ("Atlantic/Azores", "2026-10-25", "2026-10-25 00:00", "2026-10-25 01:00"),
        ("America/Havana", "2026-11-01", "2026-11-01 04:00", "2026-11-01 05:00"),
    ],
)
def test_day_begins_at_the_first_of_two_midnights(
    cut_days_in: CutDays, zone: str, day: str, first_midnight: str, second_midnight: str
) -> None:
    """Fails when the day begins at day::timestamp AT TIME ZONE zone, the second midnight."""
    cut_days_in(zone)
    start, end = bounds_of(day)
    assert start == first_midnight
    assert day_of(f"{first_midnight}+00") == day
    assert day_of(f"{second_midnight}+00") == day
    assert run_sql("SELECT %s::timestamp - %s::timestamp = interval '25 hours'", [end, start]) == [
        (True,)
    ]


def test_day_has_two_parts_at_st_johns(cut_days_in: CutDays) -> None:
    """Until 2011 clocks went back an hour at 00:01.

    So the first minute of a day was followed by another hour of the previous day.
    """
    cut_days_in("America/St_Johns")
    assert day_of("2010-11-07 02:30+00") == "2010-11-07"
    assert day_of("2010-11-07 02:31+00") == "2010-11-06"
    assert day_of("2010-11-07 03:30+00") == "2010-11-07"
    assert bounds_of("2010-11-06") == ("2010-11-06 02:30", "2010-11-07 03:30")
    assert bounds_of("2010-11-07") == ("2010-11-07 02:30", "2010-11-08 03:30")


def test_day_begins_three_hours_early_at_casey(cut_days_in: CutDays) -> None:
    """Clocks went back three hours, from 02:00 to 23:00 of the previous day."""
    cut_days_in("Antarctica/Casey")
    assert day_of("2010-03-04 13:00+00") == "2010-03-05"
    assert day_of("2010-03-04 15:00+00") == "2010-03-04"
    assert day_of("2010-03-04 16:00+00") == "2010-03-05"
    assert bounds_of("2010-03-04") == ("2010-03-03 13:00", "2010-03-04 16:00")
    assert bounds_of("2010-03-05") == ("2010-03-04 13:00", "2010-03-05 16:00")


def test_skipped_day_holds_no_moment(cut_days_in: CutDays) -> None:
    """In Samoa 31 December followed 29 December 2011."""
    cut_days_in("Pacific/Apia")
    assert day_of("2011-12-30 09:59:59.999999+00") == "2011-12-29"
    assert day_of("2011-12-30 10:00+00") == "2011-12-31"
    assert bounds_of("2011-12-29") == ("2011-12-29 10:00", "2011-12-30 10:00")
    assert bounds_of("2011-12-30") == ("2011-12-30 10:00", "2011-12-30 10:00")
    assert bounds_of("2011-12-31") == ("2011-12-30 10:00", "2011-12-31 10:00")


def test_days_of_every_zone_lie_between_their_bounds(cut_days_in: CutDays) -> None:
    """Test days around each change of clocks from 2000 to 2040, in each zone that can be set."""
    known = {name for (name,) in run_sql("SELECT name FROM pg_timezone_names")}
    zones = sorted(known & zoneinfo.available_timezones())
    assert len(zones) > 400
    changes: dict[str, list[tuple[object, ...]]] = {zone: [] for zone in zones}
    for zone, *change in run_sql(FIND_OFFSET_CHANGES, [zones]):
        changes[zone].append(tuple(change))
    offsets = dict(
        run_sql(
            "SELECT zone, timestamptz '2026-11-02 00:00+00' AT TIME ZONE zone"
            " - timestamp '2026-11-02 00:00' FROM unnest(%s) AS zones (zone)",
            [zones],
        )
    )
    # Zones with the same changes have the same days, so one zone of each group is enough.
    distinct = {(offsets[zone], *changes[zone]): zone for zone in zones}
    assert len(distinct) > 100
    wrong = {}
    for zone in distinct.values():
        cut_days_in(zone)
        rows = run_sql(
            FIND_WRONG_BOUNDS,
            {
                "moments": [moment for moment, _, _ in changes[zone]],
                "offsets": list(
                    {offsets[zone]} | {each for _, *both in changes[zone] for each in both}
                ),
            },
        )
        if rows:
            wrong[zone] = rows
    assert wrong == {}
