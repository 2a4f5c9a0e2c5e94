"""Time zones by the zone data of PostgreSQL, which cuts the days; that of Python may differ."""

import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from django.db import DataError, connection

from usage.errors import TimeZoneMisreadError

# Sample instants in 2020, a year in which all tzdata releases agree.
SEASONS = [int(datetime(2020, month, 1, tzinfo=UTC).timestamp()) for month in (1, 4, 7, 10)]
# The shortest change of an offset since 2000 lasted a week: America/Boa_Vista in 2000.
STEP_SECONDS = 3 * 86_400

# Returns the seconds ahead of UTC at each of these moments, given in seconds since 1970.
Offsets = Callable[[Sequence[int]], list[int]]
# A moment, and the seconds ahead of UTC from it on.
Step = tuple[int, int]


@dataclass(frozen=True)
class ZoneDifference:
    """A period in which the zone data of PostgreSQL and of Python have different offsets."""

    zone: str
    start: datetime
    end: datetime
    server: timedelta
    python: timedelta

    def __str__(self) -> str:
        return (
            f"{self.zone} from {self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M} UTC: "
            f"{_hours(self.server)} in PostgreSQL, which cuts the days, "
            f"{_hours(self.python)} in Python"
        )


def refuse_misread_zone(name: str, what: str) -> None:
    """Raise TimeZoneMisreadError if PostgreSQL does not know the zone, or reads its name as an
    abbreviation: CET, EET, MET and WET have no summer time there.

    `what` is how the message calls the zone, such as "--zone CET".
    """
    advice = "Name a zone by one of its places, such as Europe/Brussels."
    try:
        offsets = _server_offsets(name)(SEASONS)
    except DataError as error:
        raise TimeZoneMisreadError(f"PostgreSQL does not know the zone {what}. {advice}") from error
    if offsets != _python_offsets(name)(SEASONS):
        raise TimeZoneMisreadError(
            f"PostgreSQL reads {what} as an abbreviation without summer time, so days in summer "
            f"would begin at a different hour than in the zone {name}. {advice}"
        )


def server_zone(name: str, first: datetime, end: datetime) -> ZoneInfo:
    """Return the zone with the offsets of PostgreSQL from `first` to `end`."""
    steps = _steps(_server_offsets(name), int(first.timestamp()), int(end.timestamp()))
    return ZoneInfo.from_file(io.BytesIO(zone_file(steps)), key=name)


def zone_file(steps: Sequence[Step]) -> bytes:
    """Return the steps as a file of zone data (RFC 8536), which zoneinfo reads. Each offset is
    valid from its moment on, and the first offset also before its moment."""
    offsets = sorted({offset for _, offset in steps})
    types = [steps[0][1], *offsets]  # zoneinfo uses the first type before the first moment
    parts = [
        struct.pack(">4sc15x6l", b"TZif", b"2", 0, 0, 0, 0, 0, 0),
        struct.pack(">4sc15x6l", b"TZif", b"2", 0, 0, 0, len(steps), len(types), 1),
        struct.pack(f">{len(steps)}q", *(moment for moment, _ in steps)),
        bytes(types.index(offset, 1) for _, offset in steps),
        *(struct.pack(">lbB", offset, 0, 0) for offset in types),
        b"\0\n\n",
    ]
    return b"".join(parts)


def zone_differences(name: str, first: date, end: date) -> list[ZoneDifference]:
    """Return the differences between the zone data of Python and of PostgreSQL, in order."""
    begin, until = (
        int(datetime.combine(day, time(), UTC).timestamp()) for day in (first, end + timedelta(1))
    )
    server = dict(_steps(_server_offsets(name), begin, until))
    python = dict(_steps(_python_offsets(name), begin, until))
    found: list[ZoneDifference] = []
    here, there = server[begin], python[begin]
    for start, stop in pairwise(sorted({*server, *python, until})):
        here, there = server.get(start, here), python.get(start, there)
        if here != there:
            found.append(
                ZoneDifference(
                    name,
                    datetime.fromtimestamp(start, UTC),
                    datetime.fromtimestamp(stop, UTC),
                    timedelta(seconds=here),
                    timedelta(seconds=there),
                )
            )
    return found


def _server_offsets(name: str) -> Offsets:
    def offsets(moments: Sequence[int]) -> list[int]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT extract(epoch FROM moment AT TIME ZONE %s - moment AT TIME ZONE 'UTC')::int"
                " FROM unnest(%s::bigint[]) WITH ORDINALITY AS stamps (stamp, place)"
                " CROSS JOIN LATERAL (SELECT to_timestamp(stamp) AS moment) AS moments"
                " ORDER BY place",
                [name, list(moments)],
            )
            return [seconds for (seconds,) in cursor]

    return offsets


def _python_offsets(name: str) -> Offsets:
    zone = ZoneInfo(name)

    def offset(moment: int) -> int:
        ahead = datetime.fromtimestamp(moment, zone).utcoffset() or timedelta(0)
        return int(ahead.total_seconds())

    return lambda moments: [offset(moment) for moment in moments]


def _steps(offsets: Offsets, first: int, end: int) -> list[Step]:
    """Return the offset at the first moment and each later change, exact to the second."""
    moments = [*range(first, end, STEP_SECONDS), end]
    found = list(zip(moments, offsets(moments), strict=True))
    steps = {found[0]}
    spans = [(before, after) for before, after in pairwise(found) if before[1] != after[1]]
    while spans:  # each span has a change: halve it until its two moments are a second apart
        halves = [(before[0] + after[0]) // 2 for before, after in spans]
        parts = []
        for (before, after), middle in zip(
            spans, zip(halves, offsets(halves), strict=True), strict=True
        ):
            for early, late in ((before, middle), (middle, after)):
                if early[1] == late[1]:
                    continue
                if late[0] - early[0] == 1:
                    steps.add(late)
                else:
                    parts.append((early, late))
        spans = parts
    return sorted(steps)


def _hours(offset: timedelta) -> str:
    minutes = round(offset.total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
