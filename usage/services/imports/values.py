"""The conversion of the values of a line to those of the database."""

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

from usage.services.imports.fields import SEPARATOR, LineRejectedError

# It must never change: the id of every imported record is derived from it.
NAMESPACE = uuid.UUID("6f1f6f0e-3c53-5b6e-9a53-0d5b9d0f7c11")
MOST_QUANTITY = 2**32  # so that a bigint can hold the sum of two billion records
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC).timestamp()
LATEST = datetime(2100, 1, 1, tzinfo=UTC).timestamp()


@dataclass(frozen=True)
class Moments:
    """The zone of times without an offset, and the limit of future records.

    `latest` is the first moment that is too late, in seconds since 1970: `future` days from now.
    """

    zone: ZoneInfo | None
    future: int
    latest: float

    def refusal(self, stamp: float) -> str:
        """Return why a moment before EARLIEST, or not before `latest`, is rejected."""
        if EARLIEST <= stamp < LATEST:
            ahead = "1 day" if self.future == 1 else f"{self.future} days"
            return f"is more than {ahead} ahead: correct it, or allow more days with --future"
        return "is not from 2000 up to 2100"


_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def record_id_maker(source: str) -> Callable[[str], str]:
    """Return a function from the key of a record to uuid5(NAMESPACE, source + SEPARATOR + key).

    It returns 32 hexadecimal digits, and is several times as fast as uuid.uuid5.
    """
    start = f"{source}{SEPARATOR}".encode(errors="surrogateescape")
    copy = hashlib.sha1(NAMESPACE.bytes + start, usedforsecurity=False).copy

    def record_id(key: str) -> str:
        state = copy()
        state.update(key.encode())
        digest = state.hexdigest()
        return f"{digest[:12]}5{digest[13:16]}{_VARIANT[digest[16]]}{digest[17:32]}"

    return record_id


def local_moment(local: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment of a local time. If clocks went back and it exists twice, the earlier one.

    Raises LineRejectedError if clocks went forward over it.
    """
    moment = local.replace(tzinfo=zone)
    if moment.utcoffset() < moment.replace(fold=1).utcoffset():  # type: ignore[operator]
        raise LineRejectedError(
            f"{local:%Y-%m-%d %H:%M:%S} does not exist in {zone.key}: clocks went forward over it"
        )
    return moment


@lru_cache(maxsize=65_536)
def pence_to_units(pence: str) -> str:
    """Return a hundredth of a decimal number, exact to the last digit."""
    return f"{Decimal(pence).scaleb(-2):f}"
