"""The columns of a line: the patterns of their values, and the reasons to reject a line."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter

# Control, format, blank, private-use and unassigned characters.
HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})
# These are in other categories, but they are invisible or blank too.
HIDDEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
# No column accepts this character, so it can stand between values that are checked together.
SEPARATOR = "\x1f"


class LineRejectedError(ValueError):
    """A line cannot be a record; the message is the reason."""


@dataclass(frozen=True)
class Column:
    """A column: the pattern of its values, and `meaning`, its description in messages.

    Text is stored in its NFC form (see `one_spelling`).
    """

    name: str
    pattern: str
    meaning: str
    is_text: bool = False

    @cached_property
    def _fit(self) -> Callable[[str], re.Match[str] | None]:
        return re.compile(self.pattern, re.ASCII).fullmatch

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
        if not self._fit(value):
            raise LineRejectedError(
                f"{self.name} {shown!r} is not {self.meaning}" if value else f"{self.name} is empty"
            )
        return value


def text_column(name: str, most: int) -> Column:
    """Return a column for text up to a length, without control characters or outer blanks."""
    inner, outer = r"[^\x00-\x1f\x7f]", r"[^\x00-\x20\x7f]"
    meaning = f"text of at most {most} characters without control characters or blanks around it"
    return Column(name, rf"{outer}(?:{inner}{{0,{most - 2}}}{outer})?", meaning, is_text=True)


class ValueReader:
    """A reader of the values of a row: it returns those of the wanted columns in their order.

    One pattern checks the values of most rows together. Rows with a fault or with characters beyond
    ASCII are read column by column.
    """

    def __init__(self, names: Sequence[str], wanted: Sequence[Column]) -> None:
        by_name = {column.name: column for column in wanted}
        self._count = len(names)
        self._columns = [(at, by_name[name]) for at, name in enumerate(names) if name in by_name]
        self._pick = itemgetter(*(names.index(column.name) for column in wanted))
        every = SEPARATOR.join(f"(?:{column.pattern})" for column in wanted)
        self._fit = re.compile(every, re.ASCII).fullmatch

    def read(self, values: list[str]) -> Sequence[str]:
        """Return the values to store. Raises LineRejectedError with the first fault."""
        if len(values) != self._count:
            raise LineRejectedError(f"{len(values)} columns instead of {self._count}")
        wanted: Sequence[str] = self._pick(values)
        together = SEPARATOR.join(wanted)
        if together.isascii() and self._fit(together):
            return wanted
        read = values.copy()
        for at, column in self._columns:
            read[at] = column.read(values[at])
        return self._pick(read)


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
