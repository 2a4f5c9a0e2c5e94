"""Rows as CSV: RFC 4180, UTF-8, with a header line."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from usage.services.exports.column_kinds import KINDS, Kind

# A spreadsheet runs a cell that begins with one of = + - @, also in full width. Where ; separates
# cells, quotes inside a line mean nothing, so a cell also begins after each ; and each line end.
# The apostrophe is among them, so that a reader who takes one off at each of these places has the
# text as it was.
FORMULA = re.compile(
    r"^(?=[\t\r\n])|(?:^|(?<=[;\r\n]))(?=[ \t]*[=+\-@\uff1d\uff0b\uff0d\uff20'\"])"
)


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
    """The text with an apostrophe wherever it would begin a formula, for , and ; as separators."""
    return FORMULA.sub("'", text)


TEXTS: dict[Kind, Callable[[Any], str]] = {Kind.FOREIGN: defused}


def _drained(lines: io.StringIO) -> bytes:
    text = lines.getvalue()
    lines.seek(0)
    lines.truncate()
    return text.encode()
