"""The report of an import, in numbers and in words."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

from django.db import DatabaseError

from usage.errors import ImportFileError
from usage.services.imports.batches import Batch, Rejection
from usage.services.imports.staging import Written

REPORTED_REJECTIONS = 10
REPORTED_RANGES = 10


@dataclass
class ImportReport:
    """The numbers of lines by result; after a dry run, those that an import would have.

    Each line is added, already known, differing from the record that is kept, or rejected; blank
    lines do not count. `first_rejections` are the first lines that were rejected or differ.
    """

    name: str
    dry_run: bool = False
    read: int = 0
    added: int = 0
    already_known: int = 0
    differing: int = 0
    rejected: int = 0
    seconds: float = 0.0
    rejects: Path | None = None
    first_rejections: list[Rejection] = field(default_factory=list)
    days: set[date] = field(default_factory=set)

    @property
    def rows_per_second(self) -> float:
        return self.read / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        added = "would be added" if self.dry_run else "added"
        return (
            f"{self.read:,} read, {self.added:,} {added}, {self.already_known:,} already known, "
            f"{self.differing:,} differing, {self.rejected:,} rejected in {self.seconds:.1f} s"
            f" ({self.rows_per_second:,.0f} rows/s)"
        )

    def touched(self) -> str:
        """Return a sentence that names the days of the added records."""
        verb = "would touch" if self.dry_run else "touched"
        if not self.days:
            return f"It {verb} no day."
        number = "1 day" if len(self.days) == 1 else f"{len(self.days):,} days"
        return f"It {verb} {number}: {_ranges(self.days)}."

    def count(self, batch: Batch, written: Written) -> list[Rejection]:
        """Add the results of a batch; return its rejected and differing lines in order."""
        not_stored = sorted(batch.rejected + written.refused + written.differing)
        self.read += batch.read
        self.added += written.added
        self.already_known += written.already_known
        self.differing += len(written.differing)
        self.rejected += len(batch.rejected) + len(written.refused)
        self.first_rejections += not_stored[: REPORTED_REJECTIONS - len(self.first_rejections)]
        self.days |= written.days
        return not_stored


class ImportStoppedError(ImportFileError):
    """The import stopped before the end of the file; `report` counts what was written."""

    def __init__(self, fault: Exception, report: ImportReport) -> None:
        self.report = report
        by_database = isinstance(fault, DatabaseError)
        cause = f"The database stopped the import: {fault}" if by_database else str(fault)
        so_far = (
            f"Before that: {report}. {report.touched()} Mend the cause, then repeat the same "
            "command: lines that were added are then already known."
            if report.read and not report.dry_run
            else "Nothing was written."
        )
        super().__init__(f"{cause.strip()} {so_far}")


def _ranges(days: Collection[date]) -> str:
    ranges: list[tuple[date, date]] = []
    for day in sorted(days):
        if ranges and day - ranges[-1][1] == timedelta(1):
            ranges[-1] = ranges[-1][0], day
        else:
            ranges.append((day, day))
    texts = [f"{first}" if first == last else f"{first} to {last}" for first, last in ranges]
    more = len(texts) - REPORTED_RANGES
    if more > 0:
        texts[-more - 1 :] = [f"{more + 1:,} ranges more, the last {texts[-1]}"]
    return ", ".join(texts)
