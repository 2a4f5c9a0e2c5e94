"""The file to which an import writes rejected lines."""

import csv
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from usage.errors import ImportFileError
from usage.services.imports.batches import Rejection
from usage.services.imports.lines import NO_LINE_END, REJECTS_SUFFIX, STANDARD_INPUT

# No format has columns with these names, so the file itself can be imported.
COLUMNS = "line_number,reason"
MOST_FILES = 1_000  # of one imported file


class RejectsFile:
    """A CSV file of line number, reason and original line, readable by its owner only.

    The first rejection creates the file, at the first of the paths where nothing exists; `path` is
    that path. Without paths, rejections are not written.
    """

    def __init__(self, paths: Iterable[Path], header: str) -> None:
        self.path: Path | None = None
        self._paths = iter(paths)
        self._header = header
        self._file: TextIO | None = None

    def write(self, rejections: list[Rejection]) -> None:
        """Append the rejections. Raises ImportFileError when they cannot be written."""
        if not rejections:
            return
        self._file = self._file or self._create()
        if self._file is None:
            return
        try:
            for line, reason, text in rejections:
                start = io.StringIO()
                csv.writer(start, lineterminator="").writerow([line, reason])
                # A line without a line end is written without one, so that an import of this file
                # rejects it too until somebody completes it.
                end = "" if reason == NO_LINE_END else "\n"
                self._file.write(f"{start.getvalue()},{text}{end}")
            self._file.flush()
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is None:
            return
        try:
            self._file.close()
        except OSError as failed:  # after a failed write, close() tries to write the buffer again
            if error is None:
                raise _cannot_write(self.path, failed) from failed

    def _create(self) -> TextIO | None:
        taken = None
        for path in self._paths:
            try:
                # O_EXCL never follows a link or opens a file that another process made.
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                os.fchmod(descriptor, 0o600)
            except FileExistsError as error:
                taken = _cannot_write(path, error)
            except OSError as error:
                raise _cannot_write(path, error) from error
            else:
                self.path = path
                file = os.fdopen(descriptor, "w", encoding="utf-8", newline="")
                file.write(f"{COLUMNS},{self._header}\n")
                return file
        if taken:
            raise taken
        return None


def default_paths(path: str) -> Iterator[Path]:
    """Yield FILE.rejects, FILE.rejects-2 and so on, beside the file; for a pipe, in the current
    directory."""
    name = "stdin" if path == STANDARD_INPUT else Path(path).name
    directory = _directory(path)
    yield directory / f"{name}{REJECTS_SUFFIX}"
    for number in range(2, MOST_FILES + 1):
        yield directory / f"{name}{REJECTS_SUFFIX}-{number}"


def refuse_unwritable(rejects: Path | None, path: str) -> None:
    """Raise ImportFileError before the import if rejected lines could not be written."""
    if rejects and os.path.lexists(rejects):
        raise ImportFileError(f"{rejects} exists. Give --rejects a path where nothing exists.")
    directory = rejects.parent if rejects else _directory(path)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ImportFileError(
            f"The file of rejected lines cannot be made in {directory}. Give a path with --rejects."
        )


def _directory(path: str) -> Path:
    return Path(path).parent if path != STANDARD_INPUT and Path(path).is_file() else Path.cwd()


def _cannot_write(path: Path | None, error: OSError) -> ImportFileError:
    return ImportFileError(
        f"{path} cannot be written: {error.strerror}. Give another path with --rejects."
    )
