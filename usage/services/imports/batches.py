"""Batches of records on their way from the lines of a file into the raw tables."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from usage.models import UsageType
from usage.services.imports.fields import LineRejectedError
from usage.services.imports.formats import LineFormat
from usage.services.imports.lines import Lines

SWITCH_SECONDS = 0.001
# Days begin on quarter hours in every zone, so the quarters of a batch show its days.
QUARTER_SECONDS = 900

# line, its text, external_id; usage_date, quantity, price and id as COPY reads them
Record = tuple[int, str, str, str]


class Rejection(NamedTuple):
    line: int
    reason: str
    text: str


@dataclass
class Batch:
    """Consecutive lines: the records they hold by usage type, and the lines that hold none."""

    read: int = 0
    records: dict[str, list[Record]] = field(
        default_factory=lambda: {usage_type.value: [] for usage_type in UsageType}
    )
    external_ids: set[str] = field(default_factory=set)
    quarters: set[float] = field(default_factory=set)
    rejected: list[Rejection] = field(default_factory=list)
    position: int = 0

    def reject(self, number: int, reason: str, text: str) -> None:
        self.rejected.append(Rejection(number, reason, text.rstrip("\r")))

    def good(self) -> int:
        return sum(map(len, self.records.values()))


def read_batches(lines: Lines, line_format: LineFormat, size: int) -> Iterator[Batch]:
    """The rest of the lines in batches. Raises ImportFileError where the file stops being text."""
    parse = line_format.parse
    batch = Batch()
    for number, text in lines:
        try:
            usage_type, external_id, stored, stamp = parse(text)
        except LineRejectedError as error:
            if not text.strip():
                continue
            batch.reject(number, str(error), text)
        else:
            batch.records[usage_type].append((number, text, external_id, stored))
            batch.external_ids.add(external_id)
            batch.quarters.add(stamp // QUARTER_SECONDS)
        batch.read += 1
        if batch.read == size:
            batch.position = lines.position()
            yield batch
            batch = Batch()
    for number, reason, text in lines.unreadable():
        if text.strip():
            batch.reject(number, reason, text)
            batch.read += 1
        if batch.read == size:
            batch.position = lines.position()
            yield batch
            batch = Batch()
    batch.position = lines.position()
    yield batch


def read_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, the next one read in a thread while the caller works on the last."""
    interval = sys.getswitchinterval()
    # Each answer of the database waits this long for the reading thread to let go of Python.
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="import-reader") as pool:
            ahead = pool.submit(next, batches, None)
            while (batch := ahead.result()) is not None:
                ahead = pool.submit(next, batches, None)
                yield batch
    finally:
        sys.setswitchinterval(interval)
