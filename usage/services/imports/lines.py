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
# Matches a line that is a whole record by RFC 4180. The csv module reads all other lines.
VALUE = r'(?:"(?:[^"]++|"")*+"|[^",]*+)'
WHOLE_RECORD = re.compile(rf"{VALUE}(?:,{VALUE})*+\r?")
BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"

REJECTS_SUFFIX = ".rejects"
NO_LINE_END = (
    "the last line has no line end, so it may be cut off:"
    " complete it, or give --complete if it is whole"
)

Numbered = tuple[int, str]
Unreadable = tuple[int, str, str]


class Lines:
    """An iterator over (line number, text) of each record; the first line is 1.

    A record is a line, or several lines if a quoted value has line breaks (RFC 4180). The iteration
    ends before lines that cannot be read as records; `unreadable` returns them. Raises
    ImportFileError, which names the line, if the file is not text.
    """

    def __init__(self, name: str, raw: BufferedReader, compressed: bool, complete: bool) -> None:
        self.name = name
        self._bytes = 0
        self._raw = raw
        self._stream = gzip.GzipFile(fileobj=raw, mode="rb") if compressed else raw
        self._complete = complete
        self._ended = chain.from_iterable(self._blocks())
        self._cut: Numbered | None = None
        self._unended = self._last_line()
        self._unreadable: Iterator[Unreadable] = iter(())
        self._records = self._join()

    def __iter__(self) -> Iterator[Numbered]:
        return self._records

    def peek(self) -> str:
        """Return the next record without reading past it, or "" at the end."""
        if first := next(self._records, None):
            self._records = chain([first], self._records)
            return first[1]
        if unreadable := next(self._unreadable, None):
            self._unreadable = chain([unreadable], self._unreadable)
            return unreadable[2]
        return ""

    def skip(self) -> None:
        """Read past the record that `peek` returned."""
        if not next(self._records, None):
            next(self._unreadable, None)

    def unreadable(self) -> Iterator[Unreadable]:
        """Return the lines after the last record: (number, why it is no record, text)."""
        return self._unreadable

    def position(self) -> int:
        """Return the bytes read so far: compressed bytes for a file, decompressed for a pipe."""
        return self._raw.tell() if self._raw.seekable() else self._bytes

    def _join(self) -> Iterator[Numbered]:
        for number, text in self._ended:
            if '"' in text and not WHOLE_RECORD.fullmatch(text):
                record = self._whole_record(number, text)
                if record is None:
                    return
                yield number, record
            else:
                yield number, text
        self._unreadable = ((number, NO_LINE_END, text) for number, text in self._unended)

    def _whole_record(self, number: int, text: str) -> str | None:
        """Return the record that begins with a line, or None if the lines from it on are
        unreadable."""
        taken = [(number, text)]

        def feed() -> Iterator[str]:
            characters = len(text)
            yield text
            for following in chain(self._ended, self._unended):
                taken.append(following)
                characters += len(following[1]) + 1
                if characters > LONGEST_RECORD_CHARACTERS:
                    raise csv.Error(f"longer than {LONGEST_RECORD_CHARACTERS} characters")
                yield following[1]

        try:
            next(csv.reader(feed(), strict=True))
        except csv.Error as error:
            # A faulty line whose quotes are in pairs still ends at its line end.
            if len(taken) > 1 or text.count('"') % 2:
                why = f"the quote that opens on line {number} has no valid end in CSV ({error})"
                self._unreadable = (
                    (line, f"{why}: no line from there on can be read", unread)
                    for line, unread in chain(taken, self._ended, self._unended)
                )
                return None
        record = "\n".join(text for _, text in taken)
        if taken[-1] is self._cut:
            self._unreadable = iter([(number, NO_LINE_END, record)])
            return None
        return record

    def _blocks(self) -> Iterator[Iterator[Numbered]]:
        """Yield the lines that have a line end, one block at a time."""
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
        if not rest:
            return
        last = number, self._decode(rest, number - 1)
        if self._complete:
            yield iter([last])
        elif last[1].strip():
            self._cut = last

    def _last_line(self) -> Iterator[Numbered]:
        """Yield the last line if it has no line end; all other lines must be read before."""
        if self._cut:
            yield self._cut

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
