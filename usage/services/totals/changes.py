"""Changes of daily totals in one transaction: they are noted, and checked before they are used.

Period totals are kept by these changes alone, so a change that is not noted would leave them wrong
for good. So each statement that writes daily totals does two things. It notes in usage_total_change
the amounts that it added and took away. It also returns the fingerprint of the rows that it wrote,
less that of the rows that it replaced; this fingerprint does not come from the notes. The
fingerprint of the notes must equal the sum of those fingerprints before the changes are added to
the period totals.
"""

from datetime import date
from decimal import Context, Decimal

from django.db import connection

from usage.sql import queries

# Fingerprints have more digits than Decimal keeps by default.
EXACT = Context(prec=1_000)


class Changes:
    """The changes of one transaction, from its first write to apply_changes().

    `written` is the fingerprint of the rows that its statements wrote, less that of the rows that
    they replaced. `first_day` is the earliest day that they may have written; None before the
    first write.
    """

    def __init__(self) -> None:
        """Create the table of notes. This takes the snapshot, unless an earlier query did."""
        self.written = Decimal(0)
        self.first_day: date | None = None
        with connection.cursor() as cursor:
            cursor.execute(queries.read("create_total_change"))

    def add_written(self, fingerprint: Decimal, first_day: date) -> None:
        """Add the fingerprint of a statement that wrote days from first_day on."""
        self.written = EXACT.add(self.written, fingerprint)
        self.first_day = min(first_day, self.first_day or first_day)

    def are_all_noted(self) -> bool:
        """Return whether the notes have the same fingerprint as the written rows."""
        with connection.cursor() as cursor:
            cursor.execute(queries.read("fingerprint_of_changes"))
            (noted,) = cursor.fetchone()
        return bool(noted == self.written)
