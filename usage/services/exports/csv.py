"""Rows as CSV: RFC 4180, UTF-8, with a header line."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from usage.services.exports.columns import KINDS, Kind

# A spreadsheet runs a cell that begins with one of these. The apostrophe itself is among them, so
# that who takes one apostrophe off the front has the text as it was.
DEFUSED = ("=", "+", "-", "@", "\t", "\r", "\n", "'")


def csv_chunks(
    columns: Sequence[str], batches: Iterable[Sequence[Sequence[Any]]]
) -> Iterator[bytes]:
    """The header and the lines of the first batch, then the lines of one batch after the other."""
    texts = [
        (place, TEXTS[KINDS[column]])
        for place, column in enumerate(columns)
        if KINDS[column] in TEXTS
    ]
    lines = io.StringIO()
    writer = csv.writer(lines)
    writer.writerow(columns)
    for batch in batches:
        for row in batch:
            cells = list(row)
            for place, text in texts:
                cells[place] = text(cells[place])
            writer.writerow(cells)
        yield _drained(lines)
    if rest := _drained(lines):
        yield rest


def defused(text: str) -> str:
    """The text with an apostrophe before a first character that would make it a formula."""
    return f"'{text}" if text.startswith(DEFUSED) else text


TEXTS: dict[Kind, Callable[[Any], str]] = {Kind.FOREIGN: defused}


def _drained(lines: io.StringIO) -> bytes:
    text = lines.getvalue()
    lines.seek(0)
    lines.truncate()
    return text.encode()
