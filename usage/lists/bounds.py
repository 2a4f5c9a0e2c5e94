"""Bounds of parameter values, used both to check a value and to publish its schema."""

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

from usage.lists.pagination import LARGEST_PAGE_SIZE
from usage.selectors import FIRST_DAY

# A JSON schema, or a part of one.
Schema: TypeAlias = dict[str, Any]

MOST_IDS = 200
LONGEST_EXTERNAL_ID = 100

# The allowed days are those of one century, from FIRST_DAY to LAST_DAY.
MONTH_PATTERN = f"{FIRST_DAY.year // 100}[0-9]{{2}}-(0[1-9]|1[0-2])"
DAY_PATTERN = f"{MONTH_PATTERN}-(0[1-9]|[12][0-9]|3[01])"
# Digits of a price limit before and after the point.
PRICE_DIGITS, PRICE_DECIMALS = 20, 8
PRICE_PATTERN = rf"[0-9]{{1,{PRICE_DIGITS}}}(\.[0-9]{{1,{PRICE_DECIMALS}}})?"


@dataclass(frozen=True)
class WholeNumbers:
    """The whole numbers from `least` to `most`."""

    least: int
    most: int

    @property
    def schema(self) -> Schema:
        return {"type": "integer", "format": "int64", "minimum": self.least, "maximum": self.most}

    def read(self, value: str) -> int | None:
        """Return the number in plain ASCII digits; None for other text and outside the bounds."""
        if not re.fullmatch(r"[0-9]{1,19}", value):
            return None
        return int(value) if self.least <= int(value) <= self.most else None


IDS = WholeNumbers(1, 2**63 - 1)
PAGE_SIZES = WholeNumbers(1, LARGEST_PAGE_SIZE)
# In seconds; the largest is a week.
STALENESS = WholeNumbers(0, 7 * 24 * 60 * 60)


def many(values: Schema) -> Schema:
    """Return the schema of a list of such values, as long as one request may send."""
    return {"type": "array", "items": values, "minItems": 1, "maxItems": MOST_IDS}
