"""How many totals of a day a repair would remove, and when that is more than it may.

A repair computes totals from raw records. Where these are missing, as after a restore without them,
it would remove totals that are right. So no repair removes more than a hundredth of the totals of
a day, unless an operator says so.
"""

from dataclasses import dataclass
from datetime import date

from django.db import connection

from usage.services.audit_sql import COUNT_REMOVALS, DIFFERING

# One total in so many is the most that a repair removes by itself.
SHARE = 100


@dataclass(frozen=True)
class Removals:
    """What a repair of one sealed day would remove: `removed` of its `totals` have no raw record,
    and no late key that says why. A day without `has_records` has not one raw record."""

    day: date
    totals: int
    removed: int
    has_records: bool

    @property
    def are_too_many(self) -> bool:
        """Whether a repair must not remove them by itself."""
        return self.removed * SHARE > self.totals

    def __str__(self) -> str:
        what = f"{self.day}: {self.removed} of {self.totals} totals have no raw record"
        return what if self.has_records else f"{what}; the day has none at all"


def removals(day: date) -> Removals:
    """What a repair of this sealed day would remove; reads the raw records of the day."""
    query = DIFFERING.format(relation="usage_daily_sealed", sampled="", and_sampled="")
    with connection.cursor() as cursor:
        cursor.execute(query + COUNT_REMOVALS, {"first_day": day, "last_day": day})
        return Removals(day, *cursor.fetchone())
