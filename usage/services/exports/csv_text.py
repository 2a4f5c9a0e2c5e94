"""Rows as CSV: RFC 4180, UTF-8, with a header line."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from usage.services.exports.column_kinds import KINDS, Kind

ROWS_PER_CHUNK = 5000

# A spreadsheet executes a cell that begins with = + - or @, also as full-width characters. A
# spreadsheet that separates cells by ; ignores quotes inside a line, so a cell also begins after
# each ; and each line end. A leading apostrophe gets another one too, so that a reader who removes
# one at each of these places has the original text.
FORMULA = re.compile(
    r"^(?=[\t\r\n])|(?:^|(?<=[;\r\n]))(?=[ \t]*[=+\-@\uff1d\uff0b\uff0d\uff20'\"])"
)


def csv_chunks(
    columns: Sequence[str], batches: Iterable[Sequence[Sequence[Any]]]
) -> Iterator[bytes]:
    """Yield the header with the lines of the first batch, then the lines of each further batch."""
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
    """Return the text with an apostrophe before each possible formula (separators , and ;)."""
    return FORMULA.sub("'", text)


TEXTS: dict[Kind, Callable[[Any], str]] = {Kind.FOREIGN: defused}


def _drained(lines: io.StringIO) -> bytes:
    text = lines.getvalue()
    lines.seek(0)
    lines.truncate()
    return text.encode()
