"""The limit on how many totals of a day a repair may remove.

A repair computes totals from raw records. If the raw records are missing, as after a restore
without them, it would remove correct totals. So no repair removes more than 1 % of the totals of a
day, unless an operator orders it.
"""

from dataclasses import dataclass
from datetime import date

from django.db import connection

from usage.sql import queries

# A repair by itself removes at most one total in this many.
SHARE = 100


@dataclass(frozen=True)
class Removals:
    """The totals that a repair of one sealed day would remove.

    `removed` of its `totals` have no raw record and no late key that explains it. `has_records` is
    False if the day has no raw record at all.
    """

    day: date
    totals: int
    removed: int
    has_records: bool

    @property
    def are_too_many(self) -> bool:
        """Return whether a repair must not remove them by itself."""
        return self.removed * SHARE > self.totals

    def __str__(self) -> str:
        text = f"{self.day}: {self.removed} of {self.totals} totals have no raw record"
        return text if self.has_records else f"{text}; the day has no raw record at all"


def removals(day: date) -> Removals:
    """Return what a repair of this sealed day would remove; reads the raw records of the day."""
    with connection.cursor() as cursor:
        cursor.execute(
            queries.read("count_removals", _relation="usage_daily_sealed"),
            {"first_day": day, "last_day": day, "subscription_ids": None},
        )
        return Removals(day, *cursor.fetchone())
