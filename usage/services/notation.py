"""One text for one value: JSON, CSV and pages write the same."""

from datetime import datetime
from decimal import Decimal


def amount_text(amount: Decimal) -> str:
    """The amount in plain notation with every digit that counts: 1.5 for 1.50000000, 0 for 0E-8.

    Nothing is rounded. PostgreSQL keeps the zeros that a record was written with, so equal sums
    can differ in them.
    """
    # Twice as fast as format(), which only small and round amounts need.
    text = str(amount)
    if "E" in text:
        text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def moment_text(moment: datetime) -> str:
    """The moment as 2026-11-24T09:12:54.000000Z. There are always six digits of a second: pandas
    reads a column that mixes two forms as text."""
    return moment.isoformat("T", "microseconds").replace("+00:00", "Z")
