"""The file that takes the lines an import rejected."""

import csv
import io
import os
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from usage.errors import ImportFileError
from usage.services.imports.batches import Rejection
from usage.services.imports.lines import NO_LINE_END, STANDARD_INPUT


class RejectsFile:
    """CSV: line, reason and the line as it was. Made with the first rejection, for its owner only.

    With a path of None rejections are counted by others and kept nowhere.
    """

    def __init__(self, path: Path | None, header: str) -> None:
        self.path = path
        self._header = header
        self._file: TextIO | None = None

    def write(self, rejections: list[Rejection]) -> None:
        """Append the rejections. Raises ImportFileError when the file can't be made."""
        if self.path is None or not rejections:
            return
        if self._file is None:
            self._file = _create(self.path)
            self._file.write(f"line,reason,{self._header}\n")
        for line, reason, text in rejections:
            start = io.StringIO()
            csv.writer(start, lineterminator="").writerow([line, reason])
            # A cut off line stays one, so that nobody imports it from here by mistake.
            end = "" if reason == NO_LINE_END else "\n"
            self._file.write(f"{start.getvalue()},{text}{end}")
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()


def default_path(path: str) -> Path:
    """<name of the file>.rejects.csv in the current directory."""
    name = "stdin" if path == STANDARD_INPUT else Path(path).name
    return Path.cwd() / f"{name}.rejects.csv"


def refuse_unwritable(rejects: Path, path: str) -> None:
    """Raise ImportFileError before the import when rejected lines could not be kept."""
    if rejects.exists() and path != STANDARD_INPUT and rejects.samefile(path):
        raise ImportFileError(f"{rejects} is the file to import. Give --rejects another path.")
    if rejects.is_dir() or not os.access(rejects.parent, os.W_OK):
        raise ImportFileError(f"{rejects} cannot be written. Give another path with --rejects.")


def _create(path: Path) -> TextIO:
    # O_NOFOLLOW: the current directory may be one where others leave links.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o600)
        os.fchmod(descriptor, 0o600)
    except OSError as error:
        raise ImportFileError(
            f"{path} cannot be written: {error.strerror}. Give another path with --rejects."
        ) from error
    return os.fdopen(descriptor, "w", encoding="utf-8", newline="")
