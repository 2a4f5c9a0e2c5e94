"""The days of a time zone, computed from the offsets of Python's zoneinfo, without SQL."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from itertools import pairwise
from zoneinfo import ZoneInfo

TICK, SECOND = timedelta(microseconds=1), timedelta(seconds=1)
QUARTER, DAY = timedelta(minutes=15), timedelta(days=1)
# Less than the shortest time between two clock changes: Ramadan, about a month.
STEP = timedelta(days=7)

Span = tuple[datetime, datetime]


@dataclass(frozen=True)
class Clock:
    """The clock of a zone in the days from `first` up to `end`."""

    name: str
    first: date
    end: date

    @cached_property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.name)

    @cached_property
    def changes(self) -> list[datetime]:
        """Return the moments at which the offset changes."""
        begin, end = (
            datetime.combine(day, time(), UTC) for day in (self.first - DAY, self.end + DAY)
        )
        steps = [begin + number * STEP for number in range((end - begin) // STEP + 2)]
        return [
            self._change(before, after)
            for before, after in pairwise(steps)
            if self.offset(before) != self.offset(after)
        ]

    def offset(self, moment: datetime) -> timedelta:
        """Return the offset from UTC."""
        offset = moment.astimezone(self.zone).utcoffset()
        assert offset is not None
        return offset

    def day(self, moment: datetime) -> date:
        """Return the day that the clock shows."""
        return moment.astimezone(self.zone).date()

    def spans(self, day: date) -> list[Span]:
        """Return the spans in which the clock shows this day: one, two if it goes back over
        midnight, or none."""
        midnight = datetime.combine(day, time(), UTC)
        first, last = midnight - 2 * DAY, midnight + 3 * DAY
        around = [first, *(moment for moment in self.changes if first < moment < last), last]
        spans: list[Span] = []
        for start, end in pairwise(around):
            offset = self.offset(start)
            begins, ends = max(start, midnight - offset), min(end, midnight + DAY - offset)
            if begins >= ends:
                continue
            if spans and spans[-1][1] == begins:
                spans[-1] = (spans[-1][0], ends)
            else:
                spans.append((begins, ends))
        return spans

    def days_to_try(self) -> list[date]:
        """Return the days around every change, and four days that have no change in most zones."""
        days = {self.day(change) + shift * DAY for change in self.changes for shift in (-1, 0, 1)}
        last = self.end - DAY
        return sorted(days | {last.replace(month=month, day=15) for month in (1, 4, 7, 12)})

    def moments(self, day: date) -> Iterator[datetime]:
        """Yield the beginning and end of the day, the ticks before them, and each quarter hour."""
        for begins, ends in self.spans(day):
            yield from (begins - TICK, begins, ends - TICK, ends)
            quarter = begins + QUARTER
            while quarter < ends:
                yield quarter
                quarter += QUARTER

    def _change(self, before: datetime, after: datetime) -> datetime:
        """Return the first second with the new offset."""
        old = self.offset(before)
        while after - before > SECOND:
            middle = before + (after - before) // 2 // SECOND * SECOND
            if self.offset(middle) == old:
                before = middle
            else:
                after = middle
        return after
