"""The text of amounts and moments, the same in JSON, CSV and pages."""

from datetime import datetime
from decimal import Decimal


def amount_text(amount: Decimal) -> str:
    """Return the amount in plain notation without trailing zeros: 1.5 for 1.50000000, 0 for 0E-8.

    Nothing is rounded. PostgreSQL keeps the trailing zeros of the records, so equal sums can differ
    in them.
    """
    # str() is twice as fast as format(). Only very small and round amounts need format().
    text = str(amount)
    if "E" in text:
        text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def moment_text(moment: datetime) -> str:
    """Return the moment as 2026-11-24T09:12:54.000000Z.

    Seconds always have six decimals: pandas reads a column that mixes two forms as text.
    """
    return moment.isoformat("T", "microseconds").replace("+00:00", "Z")
