"""The columns of a line: what their values must look like, and why a line is no good."""

import csv
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

# Control characters, formats, blanks, private characters and those without an assignment.
HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})
# These belong to other categories, but show nothing or a blank as well.
HIDDEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


class LineRejectedError(ValueError):
    """Why one line cannot be a record."""


@dataclass(frozen=True)
class Column:
    """A column: what its values match, and how that reads in a sentence.

    `unquoted` is the pattern in a line without quotes, where a comma ends the value. Text is
    stored in one spelling (see `one_spelling`).
    """

    name: str
    pattern: str
    meaning: str
    unquoted: str = ""
    is_text: bool = False

    def read(self, value: str) -> str:
        """The value as it is stored. Raises LineRejectedError when it does not belong here."""
        shown = f"{value[:60]}..." if len(value) > 60 else value
        if self.is_text and not value.isascii():
            value = one_spelling(value)
            if hidden := hidden_character(value):
                raise LineRejectedError(
                    f"{self.name} {shown!r} holds {hidden}, which readers cannot see:"
                    " remove or replace it"
                )
        if not re.fullmatch(self.pattern, value, re.ASCII):
            raise LineRejectedError(
                f"{self.name} {shown!r} is not {self.meaning}" if value else f"{self.name} is empty"
            )
        return value


IGNORED = Column("", ".*", "", unquoted='[^",\r]*')


def text_column(name: str, most: int) -> Column:
    """Any text up to a length, without control characters or blanks around it."""

    def pattern(apart_from: str) -> str:
        inner, outer = rf"[^\x00-\x1f\x7f{apart_from}]", rf"[^\x00-\x20\x7f{apart_from}]"
        return rf"{outer}(?:{inner}{{0,{most - 2}}}{outer})?"

    meaning = f"text of at most {most} characters without control characters or blanks around it"
    return Column(name, pattern(""), meaning, unquoted=pattern('",'), is_text=True)


class LinePattern:
    """Reads the values of the wanted columns from a record, in the order in which they are wanted.

    `match` is one pattern for the usual record; `in_match` are the groups of its match, which are
    the values where the record is ASCII. `read` reads every other record column by column: one
    with quotes, with a fault, or with text beyond ASCII.
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
        """The wanted values of a record and its match. Raises LineRejectedError with the first
        fault."""
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
    """Why a file with these names of columns does not hold the wanted ones; None when it does."""
    if missing := [column.name for column in wanted if column.name not in names]:
        return f"Missing: {', '.join(missing)}"
    twice = [column.name for column in wanted if names.count(column.name) > 1]
    return f"Named twice: {', '.join(twice)}" if twice else None


def one_spelling(text: str) -> str:
    """The text in NFC: Unicode's one sequence of characters for several that look the same."""
    return unicodedata.normalize("NFC", text)


def hidden_character(text: str) -> str | None:
    """Number and name of the first character beyond ASCII that shows nothing or a blank."""
    for character in text:
        if character > "\x7f" and (
            unicodedata.category(character) in HIDDEN_CATEGORIES or HIDDEN.match(character)
        ):
            name = unicodedata.name(character, "without a name")
            return f"U+{ord(character):04X} ({name})"
    return None


def split_record(text: str) -> list[str]:
    """The columns of one record. Raises LineRejectedError when it is not CSV."""
    try:
        return next(csv.reader([text.rstrip("\r")], strict=True), [])
    except csv.Error as error:
        raise LineRejectedError(f"not a line of CSV: {error}") from error
