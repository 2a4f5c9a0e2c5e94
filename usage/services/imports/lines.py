"""The lines of a file to import: text, gzip or not, never more than a block of it in memory."""

import gzip
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
BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"


class Lines:
    """Iterates over (number, text); numbers begin at 1.

    Raises ImportFileError, naming the line, where the file stops being text.
    """

    def __init__(self, name: str, raw: BufferedReader, compressed: bool) -> None:
        self.name = name
        self._bytes = 0
        self._raw = raw
        self._stream = gzip.GzipFile(fileobj=raw, mode="rb") if compressed else raw
        self._numbered: Iterator[tuple[int, str]] = self._split()

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return self._numbered

    def peek(self) -> str:
        """The next line, which stays to be read; empty at the end."""
        number, text = next(self._numbered, (0, ""))
        if number:
            self._numbered = chain([(number, text)], self._numbered)
        return text

    def position(self) -> int:
        """Bytes read so far: of the file as it lies on the disk, or of what came through a pipe."""
        return self._raw.tell() if self._raw.seekable() else self._bytes

    def _split(self) -> Iterator[tuple[int, str]]:
        number = 0
        rest = b""
        while block := self._read_block(number + 1):
            whole, newline, rest = (rest + block).rpartition(b"\n")
            if newline:
                for text in self._decode(whole, number).split("\n"):
                    number += 1
                    yield number, text
            if len(rest) > LONGEST_LINE_BYTES:
                raise self._not_text(number + 1, f"is longer than {LONGEST_LINE_BYTES} bytes")
        if rest:
            yield number + 1, self._decode(rest, number)

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
            raise self._not_text(lines_before + text.count("\n", 0, at) + 1, "holds a NUL byte")
        return text.removeprefix(BYTE_ORDER_MARK) if lines_before == 0 else text

    def _not_text(self, number: int, why: str) -> ImportFileError:
        return ImportFileError(f"{self.name} is not a text file: line {number} {why}.")


@contextmanager
def open_lines(path: str) -> Iterator[Lines]:
    """The lines of a file, or of standard input for "-"; gzip is recognised by its content.

    Raises ImportFileError when the file cannot be opened or is no gzip although named so.
    """
    if path == STANDARD_INPUT:
        yield _recognise("standard input", cast(BufferedReader, sys.stdin.buffer))
        return
    try:
        raw = Path(path).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise ImportFileError(f"{path} cannot be read: {error.strerror}.") from error
    with raw:
        yield _recognise(path, raw)


def source_name(path: str) -> str:
    """What a file is called as a source: its base name, the same whether compressed or not."""
    return Path(path).name.removesuffix(".gz")


def _recognise(name: str, raw: BufferedReader) -> Lines:
    compressed = raw.peek(2)[:2] == GZIP_MAGIC
    if name.endswith(".gz") and not compressed:
        raise ImportFileError(f"{name} is not gzip although its name says so.")
    return Lines(name, raw, compressed)
