"""The lines of an import file, plain text or gzip, read one block at a time."""

import csv
import gzip
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import cast

from usage.errors import ImportFileError

STANDARD_INPUT = "-"
BLOCK_BYTES = 1 << 20
LONGEST_LINE_BYTES = 1 << 16
GZIP_MAGIC = b"\x1f\x8b"
# Without a limit, the rest of the file after an unclosed quote would be held in memory.
LONGEST_RECORD_CHARACTERS = 1 << 16
BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"

REJECTS_SUFFIX = ".rejects"
NO_LINE_END = (
    "the last line has no line end, so it may be cut off:"
    " complete it, or give --complete if it is whole"
)

Numbered = tuple[int, str]
# The number of its first line, its text without a line end, its values, and the reason if it cannot
# be a record.
Row = tuple[int, str, list[str], str | None]


class Lines:
    """An iterator over the rows of a file; the first line is 1.

    A row is a line, or several lines if a quoted value has line breaks (RFC 4180). After a quote
    without a valid end, each line is a row that cannot be a record. Raises ImportFileError, which
    names the line, if the file is not text.
    """

    def __init__(self, name: str, raw: BufferedReader, compressed: bool, complete: bool) -> None:
        self.name = name
        self._bytes = 0
        self._raw = raw
        self._stream = gzip.GzipFile(fileobj=raw, mode="rb") if compressed else raw
        self._complete = complete
        self._cut: Numbered | None = None
        self._lines = chain.from_iterable(self._blocks())
        self._rows = self._read()

    def __iter__(self) -> Iterator[Row]:
        return self._rows

    def peek(self) -> Row:
        """Return the next row without reading past it, or an empty row at the end."""
        if row := next(self._rows, None):
            self._rows = chain([row], self._rows)
        return row or (1, "", [], None)

    def skip(self) -> None:
        """Read past the row that `peek` returned."""
        next(self._rows, None)

    def position(self) -> int:
        """Return the bytes read so far: compressed bytes for a file, decompressed for a pipe."""
        return self._raw.tell() if self._raw.seekable() else self._bytes

    def _read(self) -> Iterator[Row]:
        for line in self._lines:
            text = line[1].rstrip("\r")
            if '"' in text or "\r" in text:
                yield from self._read_by_csv(line)
            else:
                yield line[0], text, text.split(","), NO_LINE_END if line is self._cut else None

    def _read_by_csv(self, first: Numbered) -> Iterator[Row]:
        """Yield the row that begins with this line, or each line from it on if a quote has no
        valid end."""
        number, text = first
        taken: list[Numbered] = []
        try:
            values = next(csv.reader(self._feed(first, taken), strict=True))
        except csv.Error as error:
            # A faulty line whose quotes are in pairs still ends at its line end.
            if first is self._cut or (len(taken) == 1 and text.count('"') % 2 == 0):
                why = NO_LINE_END if first is self._cut else f"not a line of CSV: {error}"
                yield number, text.rstrip("\r"), [], why
                return
            why = f"the quote that opens on line {number} has no valid end in CSV ({error})"
            for number, text in chain(taken, self._lines):
                yield number, text.rstrip("\r"), [], f"{why}: no line from there on can be read"
        else:
            fault = NO_LINE_END if taken[-1] is self._cut else None
            text = "\n".join(text for _, text in taken).rstrip("\r")
            yield number, text, values, fault

    def _feed(self, first: Numbered, taken: list[Numbered]) -> Iterator[str]:
        """Yield this line and the following ones with their ends, and note each as taken."""
        characters = 0
        for line in chain([first], self._lines):
            taken.append(line)
            characters += len(line[1]) + 1
            if characters > LONGEST_RECORD_CHARACTERS and len(taken) > 1:
                raise csv.Error(f"longer than {LONGEST_RECORD_CHARACTERS} characters")
            yield f"{line[1]}\n"

    def _blocks(self) -> Iterator[Iterator[Numbered]]:
        """Yield the lines, one block at a time; note the last one if it may be cut off."""
        number = 1
        rest = b""
        while block := self._read_block(number):
            whole, newline, rest = (rest + block).rpartition(b"\n")
            if newline:
                lines = self._decode(whole, number - 1).split("\n")
                yield enumerate(lines, number)
                number += len(lines)
            if len(rest) > LONGEST_LINE_BYTES:
                raise self._not_text(number, f"is longer than {LONGEST_LINE_BYTES} bytes")
        last = number, self._decode(rest, number - 1)
        if last[1].strip():
            self._cut = None if self._complete else last
            yield iter([last])

    def _read_block(self, number: int) -> bytes:
        try:
            block = self._stream.read1(BLOCK_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ImportFileError(
                f"{self.name}: the gzip data is damaged or cut off at or after line {number}."
            ) from error
        except OSError as error:
            raise ImportFileError(f"{self.name}, line {number}: {error.strerror}.") from error
        self._bytes += len(block)
        return block

    def _decode(self, block: bytes, lines_before: int) -> str:
        try:
            text = block.decode()
        except UnicodeDecodeError as error:
            number = lines_before + block.count(b"\n", 0, error.start) + 1
            raise self._not_text(number, "is not UTF-8") from error
        if (at := text.find("\0")) >= 0:
            raise self._not_text(lines_before + text.count("\n", 0, at) + 1, "has a NUL byte")
        return text.removeprefix(BYTE_ORDER_MARK) if lines_before == 0 else text

    def _not_text(self, number: int, why: str) -> ImportFileError:
        return ImportFileError(f"{self.name} is not a text file: line {number} {why}.")


@contextmanager
def open_lines(path: str, complete: bool = False) -> Iterator[Lines]:
    """Open the lines of a file, or of standard input for "-"; gzip is recognised by its content.

    `complete` means that the last line is whole even without a line end.

    Raises ImportFileError if the file cannot be opened, or is named .gz but is not gzip.
    """
    if path == STANDARD_INPUT:
        yield _recognise("standard input", cast(BufferedReader, sys.stdin.buffer), complete)
        return
    try:
        raw = Path(path).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise ImportFileError(f"{path} cannot be read: {error.strerror}.") from error
    with raw:
        yield _recognise(path, raw, complete)


def source_name(path: str) -> str:
    """Return the name of a file as a source: its base name without .gz. The file of its rejected
    lines has the same source."""
    name = re.sub(rf"({re.escape(REJECTS_SUFFIX)}(-\d+)?)+$", "", Path(path).name)
    return name.removesuffix(".gz")


def _recognise(name: str, raw: BufferedReader, complete: bool) -> Lines:
    compressed = raw.peek(2)[:2] == GZIP_MAGIC
    if name.endswith(".gz") and not compressed:
        raise ImportFileError(f"{name} is not gzip although its name ends in .gz.")
    return Lines(name, raw, compressed, complete)
