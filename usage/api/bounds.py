"""What one value of a parameter may be: the bounds it is read by and, the same ones, its schema."""

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

from usage.api.pagination import LARGEST_PAGE_SIZE
from usage.selectors import FIRST_DAY

# A JSON schema, or a part of one.
Schema: TypeAlias = dict[str, Any]

MOST_IDS = 200
LONGEST_EXTERNAL_ID = 100

# The days that may be asked for are those of one century.
MONTH_PATTERN = f"{FIRST_DAY.year // 100}[0-9]{{2}}-(0[1-9]|1[0-2])"
DAY_PATTERN = f"{MONTH_PATTERN}-(0[1-9]|[12][0-9]|3[01])"
PRICE_PATTERN = r"[0-9]{1,20}(\.[0-9]{1,8})?"


@dataclass(frozen=True)
class WholeNumbers:
    """The whole numbers from `least` to `most`."""

    least: int
    most: int

    @property
    def schema(self) -> Schema:
        return {"type": "integer", "format": "int64", "minimum": self.least, "maximum": self.most}

    def read(self, value: str) -> int | None:
        """The number in plain ASCII digits, or None for anything else and outside the bounds."""
        if not re.fullmatch(r"[0-9]{1,19}", value):
            return None
        return int(value) if self.least <= int(value) <= self.most else None


IDS = WholeNumbers(1, 2**63 - 1)
PAGE_SIZES = WholeNumbers(1, LARGEST_PAGE_SIZE)
# Seconds, of a week at most.
STALENESS = WholeNumbers(0, 7 * 24 * 60 * 60)


def many(values: Schema) -> Schema:
    """As many of these as one question may name."""
    return {"type": "array", "items": values, "minItems": 1, "maxItems": MOST_IDS}
