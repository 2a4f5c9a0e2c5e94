"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO, cast

from usage.errors import ExportError

STANDARD_OUTPUT = "-"


@contextmanager
def whole_file(path: str) -> Iterator[BinaryIO]:
    """A file for its owner only, that takes its place when the block has ended well.

    When it hasn't, what was there before stays. `-` is standard output and gets what there is.
    Raises ExportError when it can't be written.
    """
    if path == STANDARD_OUTPUT:
        name, opened = "Standard output", _standard_output()
    else:
        name, opened = path, _replacement(Path(path))
    try:
        with opened as file:
            yield file
    except OSError as error:
        raise ExportError(f"{name} cannot be written: {error.strerror}.") from error


@contextmanager
def _standard_output() -> Iterator[BinaryIO]:
    with open(1, "wb", closefd=False) as file:
        yield file


@contextmanager
def _replacement(target: Path) -> Iterator[BinaryIO]:
    # A rename would put a file in the place of a device or a pipe.
    if target.exists() and not target.is_file():
        raise ExportError(f"{target} is no regular file. Give another path, or - for a pipe.")
    # Beside the target: a rename does not cross file systems.
    with NamedTemporaryFile(dir=target.parent, prefix=".export-", delete=False) as file:
        try:
            yield cast(BinaryIO, file)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(target)
        except BaseException:
            Path(file.name).unlink()
            raise
