"""Batches of records, read from the lines of a file and written to the raw tables."""

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
# In every zone days begin on a quarter hour, so the quarter hours of a batch determine its days.
QUARTER_SECONDS = 900

# The number of the line, its text, external_id, and the text for COPY: usage_date, quantity, price
# and id.
Record = tuple[int, str, str, str]


class Rejection(NamedTuple):
    line: int
    reason: str
    text: str


@dataclass
class Batch:
    """Consecutive lines: their records by usage type, and the rejected lines."""

    read: int = 0
    records: dict[str, list[Record]] = field(
        default_factory=lambda: {usage_type.value: [] for usage_type in UsageType}
    )
    external_ids: set[str] = field(default_factory=set)
    quarters: set[float] = field(default_factory=set)
    rejected: list[Rejection] = field(default_factory=list)
    position: int = 0

    def good(self) -> int:
        return sum(map(len, self.records.values()))


def read_batches(lines: Lines, line_format: LineFormat, size: int) -> Iterator[Batch]:
    """Yield the remaining rows in batches. Raises ImportFileError if a line is not text."""
    parse = line_format.parse
    batch = Batch()
    for number, text, values, fault in lines:
        try:
            if fault:
                raise LineRejectedError(fault)
            usage_type, external_id, stored, stamp = parse(values)
        except LineRejectedError as error:
            if not text.strip():
                continue
            batch.rejected.append(Rejection(number, str(error), text))
        else:
            batch.records[usage_type].append((number, text, external_id, stored))
            batch.external_ids.add(external_id)
            batch.quarters.add(stamp // QUARTER_SECONDS)
        batch.read += 1
        if batch.read == size:
            batch.position = lines.position()
            yield batch
            batch = Batch()
    batch.position = lines.position()
    yield batch


def read_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield the same batches. A thread reads the next batch while the caller handles this one."""
    interval = sys.getswitchinterval()
    # After each response of the database, this thread waits up to this long for Python's lock,
    # which the reading thread holds.
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="import-reader") as pool:
            ahead = pool.submit(next, batches, None)
            while (batch := ahead.result()) is not None:
                ahead = pool.submit(next, batches, None)
                yield batch
    finally:
        sys.setswitchinterval(interval)
