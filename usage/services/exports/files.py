"""Output files that are complete or absent."""

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
    """Open a file, readable by its owner only, that replaces `path` if the block succeeds.

    If the block fails, an earlier file stays. `-` is standard output, which may get a part.
    Raises ExportError if the file cannot be written.
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
    # A rename would replace a device or a pipe by a file.
    if target.exists() and not target.is_file():
        raise ExportError(f"{target} is no regular file. Give another path, or - for a pipe.")
    # In the directory of the target, because a rename does not cross file systems.
    with NamedTemporaryFile(dir=target.parent, prefix=".export-", delete=False) as file:
        try:
            yield cast(BinaryIO, file)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(target)
        except BaseException:
            Path(file.name).unlink()
            raise
