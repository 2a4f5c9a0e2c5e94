"""The number of trials of a fault, and the counts of what happened.

Each row of the table in docs/reliability.md is a module here, from test_01 to test_18, whose tests
use the fixture `trials`. bin/test tries each fault a few times. `bin/test --faults [ROW ...]` tries
it as often as the table says, within a time limit, and writes its counts into the row.
"""

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

TABLE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"


class Trials:
    """The counts of one row; `full` if it is tried as often as the table says."""

    def __init__(self, row: int, *, full: bool) -> None:
        self.row, self.full = row, full
        self.failures = 0
        self.counts: Counter[str] = Counter()
        self.notes: list[str] = []
        self._lock = threading.Lock()
        self._began = time.monotonic()

    def of(self, what: str, *, short: int, full: int, minutes: float = 18) -> Iterator[int]:
        """Yield the numbers of the trials; count each trial that succeeded as `what`.

        Ends after `full` or `short` trials, and begins none after `minutes`. So the table shows the
        number of trials that really ran.
        """
        deadline = time.monotonic() + minutes * 60
        for number in range(full if self.full else short):
            if time.monotonic() > deadline:
                return
            yield number
            self.count(what)

    def seconds(self, *, short: float, full: float) -> float:
        """Return the duration of a row that is limited by time."""
        return full if self.full else short

    def count(self, what: str, number: int = 1) -> None:
        """Count something else, for example reads; from any thread."""
        with self._lock:
            self.counts[what] += number

    def note(self, text: str) -> None:
        """Add a text after the counts, for example a size."""
        self.notes.append(text)

    def write(self, server: str) -> None:
        """Write the counts and the number of failures into the row's line of the table."""
        minutes = (time.monotonic() - self._began) / 60
        counts = [f"{number:,} {what}" for what, number in self.counts.items()]
        counted = ", ".join([*counts, *self.notes])
        result = f"{counted} (PostgreSQL {server}, {datetime.now(UTC):%Y-%m-%d}, {minutes:.0f} min)"
        text = TABLE.read_text()
        line = re.search(rf"^\| {self.row} \|.*$", text, re.MULTILINE)
        if line is None:
            raise LookupError(f"{TABLE} has no row {self.row}.")
        number, fault, _, _, learned = (cell.strip() for cell in line[0].strip("| ").split(" | "))
        new = f"| {number} | {fault} | {result} | {self.failures} | {learned} |"
        TABLE.write_text(text.replace(line[0], new))
