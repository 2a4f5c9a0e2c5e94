"""The columns of a line: the patterns of their values, and the reasons to reject a line."""

import csv
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

# Control, format, blank, private-use and unassigned characters.
HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})
# These are in other categories, but they are invisible or blank too.
HIDDEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


class LineRejectedError(ValueError):
    """A line cannot be a record; the message is the reason."""


@dataclass(frozen=True)
class Column:
    """A column: the pattern of its values, and `meaning`, its description in messages.

    `unquoted` is the pattern in a line without quotes, where a comma ends the value. Text is
    stored in its NFC form (see `one_spelling`).
    """

    name: str
    pattern: str
    meaning: str
    unquoted: str = ""
    is_text: bool = False

    def read(self, value: str) -> str:
        """Return the value to store. Raises LineRejectedError if it does not match the pattern."""
        shown = f"{value[:60]}..." if len(value) > 60 else value
        if self.is_text and not value.isascii():
            value = one_spelling(value)
            if hidden := hidden_character(value):
                raise LineRejectedError(
                    f"{self.name} {shown!r} has the invisible character {hidden}:"
                    " remove or replace it"
                )
        if not re.fullmatch(self.pattern, value, re.ASCII):
            raise LineRejectedError(
                f"{self.name} {shown!r} is not {self.meaning}" if value else f"{self.name} is empty"
            )
        return value


IGNORED = Column("", ".*", "", unquoted='[^",\r]*')


def text_column(name: str, most: int) -> Column:
    """Return a column for text up to a length, without control characters or outer blanks."""

    def pattern(apart_from: str) -> str:
        inner, outer = rf"[^\x00-\x1f\x7f{apart_from}]", rf"[^\x00-\x20\x7f{apart_from}]"
        return rf"{outer}(?:{inner}{{0,{most - 2}}}{outer})?"

    meaning = f"text of at most {most} characters without control characters or blanks around it"
    return Column(name, pattern(""), meaning, unquoted=pattern('",'), is_text=True)


class LinePattern:
    """A reader of records, which returns the values of the wanted columns in their wanted order.

    `match` is a fast pattern for the usual record. If the record is ASCII, the groups `in_match`
    of its match are the values. `read` reads all other records column by column: those with
    quotes, faults, or characters beyond ASCII.
    """

    def __init__(self, names: Sequence[str], wanted: Sequence[Column]) -> None:
        self._wanted = wanted
        by_name = {column.name: column for column in wanted}
        self._columns = [by_name.get(name, IGNORED) for name in names]
        groups = [
            column.unquoted if column is IGNORED else f"({column.unquoted or column.pattern})"
            for column in self._columns
        ]
        self.match = re.compile(",".join(groups) + "\r?", re.ASCII).fullmatch
        kept = [column.name for column in self._columns if column is not IGNORED]
        self._order = [kept.index(column.name) for column in wanted]
        self.in_match = tuple(position + 1 for position in self._order)

    def read(self, text: str, found: re.Match[str] | None) -> tuple[str, ...]:
        """Return the wanted values of a record; `found` is its match. Raises LineRejectedError
        with the first fault."""
        if found:
            values = found.group(*self.in_match)
            return tuple(
                value if value.isascii() else column.read(value)
                for column, value in zip(self._wanted, values, strict=True)
            )
        cells = split_record(text)
        if len(cells) != len(self._columns):
            raise LineRejectedError(f"{len(cells)} columns instead of {len(self._columns)}")
        kept = [
            column.read(cell)
            for column, cell in zip(self._columns, cells, strict=True)
            if column is not IGNORED
        ]
        return tuple(kept[position] for position in self._order)


def unusable(names: Sequence[str], wanted: Sequence[Column]) -> str | None:
    """Return why these column names do not fit the wanted columns, or None if they do."""
    if missing := [column.name for column in wanted if column.name not in names]:
        return f"Missing: {', '.join(missing)}"
    twice = [column.name for column in wanted if names.count(column.name) > 1]
    return f"Named twice: {', '.join(twice)}" if twice else None


def one_spelling(text: str) -> str:
    """Return the text in Unicode NFC, so that texts that look the same are equal."""
    return unicodedata.normalize("NFC", text)


def hidden_character(text: str) -> str | None:
    """Return number and name of the first invisible or blank character beyond ASCII, or None."""
    for character in text:
        if character > "\x7f" and (
            unicodedata.category(character) in HIDDEN_CATEGORIES or HIDDEN.match(character)
        ):
            name = unicodedata.name(character, "without a name")
            return f"U+{ord(character):04X} ({name})"
    return None


def split_record(text: str) -> list[str]:
    """Return the values of one record. Raises LineRejectedError if it is not CSV."""
    try:
        return next(csv.reader([text.rstrip("\r")], strict=True), [])
    except csv.Error as error:
        raise LineRejectedError(f"not a line of CSV: {error}") from error
