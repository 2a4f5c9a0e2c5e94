"""The columns of a line: what their values must look like, and why a line is no good."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass


class LineRejectedError(ValueError):
    """Why one line cannot be a record."""


@dataclass(frozen=True)
class Column:
    """A column: what its values match, and how that reads in a sentence.

    `unquoted` is the pattern in a line without quotes, where a comma ends the value.
    """

    name: str
    pattern: str
    meaning: str
    unquoted: str = ""

    def check(self, value: str) -> None:
        """Raise LineRejectedError when a value is not what belongs here."""
        if re.fullmatch(self.pattern, value, re.ASCII):
            return
        shown = f"{value[:60]}..." if len(value) > 60 else value
        raise LineRejectedError(
            f"{self.name} {shown!r} is not {self.meaning}" if value else f"{self.name} is empty"
        )


IGNORED = Column("", ".*", "", unquoted='[^",\r]*')


def text_column(name: str, most: int) -> Column:
    """Any text up to a length, without control characters or blanks around it."""

    def pattern(apart_from: str) -> str:
        inner, outer = rf"[^\x00-\x1f\x7f{apart_from}]", rf"[^\x00-\x20\x7f{apart_from}]"
        return rf"{outer}(?:{inner}{{0,{most - 2}}}{outer})?"

    meaning = f"text of at most {most} characters without control characters or blanks around it"
    return Column(name, pattern(""), meaning, unquoted=pattern('",'))


class LinePattern:
    """Reads the values of columns from a line.

    `match` is one pattern for the usual line, with a group a column that isn't ignored. A line
    it doesn't match has quotes or a fault: `read` goes column by column.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        groups = [
            column.unquoted if column is IGNORED else f"({column.unquoted or column.pattern})"
            for column in columns
        ]
        self.match = re.compile(",".join(groups) + "\r?", re.ASCII).fullmatch

    def read(self, text: str) -> list[str]:
        """The values that aren't ignored. Raises LineRejectedError with the first fault."""
        values = split_record(text)
        if len(values) != len(self._columns):
            raise LineRejectedError(f"{len(values)} columns instead of {len(self._columns)}")
        wanted = [
            (column, value)
            for column, value in zip(self._columns, values, strict=True)
            if column is not IGNORED
        ]
        for column, value in wanted:
            column.check(value)
        return [value for _, value in wanted]


def split_record(text: str) -> list[str]:
    """The columns of one record. Raises LineRejectedError when it is not CSV."""
    try:
        return next(csv.reader([text.rstrip("\r")], strict=True), [])
    except csv.Error as error:
        raise LineRejectedError(f"not a line of CSV: {error}") from error
