"""The changes of daily totals that one transaction makes: noted, and checked before they are used.

Period totals are kept by these changes alone, so a change that is not noted would leave them wrong
for good. Each statement that writes daily totals therefore does two things. It notes in
usage_total_change what it added and took away. And it returns the fingerprint of the rows that it
wrote and replaced, which does not come from the notes. Before the changes are added to the period
totals, the fingerprint of the notes must equal the sum of those fingerprints.
"""

from datetime import date
from decimal import Context, Decimal

from django.db import connection

CREATE = """
    CREATE TEMPORARY TABLE usage_total_change (
        subscription_id bigint NOT NULL,
        day date NOT NULL,
        usage_type text NOT NULL,
        total_price numeric NOT NULL,
        total_usage bigint NOT NULL,
        record_count bigint NOT NULL
    ) ON COMMIT DROP
"""

WEIGHT = "usage_total_weight(subscription_id, day, usage_type)"

# An aggregate over rows with the columns of a total. The factors keep a smaller price from being
# hidden by a larger usage. The halves of the usage are summed as bigint, which takes half the time
# of numeric.
FINGERPRINT = f"""
    coalesce(
        sum({WEIGHT} * total_price)
        + 1000003 * (
            4294967296 * sum({WEIGHT} * (total_usage >> 32))
            + sum({WEIGHT} * (total_usage & 4294967295))
        )
        + 998244353 * sum({WEIGHT} * record_count),
        0
    )
"""

# Fingerprints have more digits than Decimal keeps by default.
EXACT = Context(prec=1_000)


class Changes:
    """The changes of one transaction, from its first write to apply_changes().

    `written` is the fingerprint of what its statements wrote, less that of what they replaced.
    `first_day` is the earliest day they may have written, None while they wrote nothing.
    """

    def __init__(self) -> None:
        """Begin to note. This takes the snapshot, if no query took it before."""
        self.written = Decimal(0)
        self.first_day: date | None = None
        with connection.cursor() as cursor:
            cursor.execute(CREATE)

    def add_written(self, fingerprint: Decimal, first_day: date) -> None:
        """Count what a statement wrote, in days from first_day on."""
        self.written = EXACT.add(self.written, fingerprint)
        self.first_day = min(first_day, self.first_day or first_day)

    def are_all_noted(self) -> bool:
        """Whether the notes are what was written."""
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {FINGERPRINT} FROM usage_total_change")  # noqa: S608 - a constant
            (noted,) = cursor.fetchone()
        return bool(noted == self.written)
