"""Imports files of usage records. The same file twice leaves the same rows."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from zoneinfo import ZoneInfo

from django.db import DatabaseError, reset_queries

from usage.errors import ImportFileError
from usage.services.imports.batches import Batch, Rejection, read_ahead, read_batches
from usage.services.imports.columns import one_spelling
from usage.services.imports.formats import FORMATS, RECORDS, LineFormat
from usage.services.imports.lines import STANDARD_INPUT, Lines, open_lines, source_name
from usage.services.imports.rejects import RejectsFile, default_paths, refuse_unwritable
from usage.services.imports.ways import Written
from usage.services.imports.writer import BatchWriter

BATCH_LINES = 50_000
REPORTED_REJECTIONS = 10


@dataclass(frozen=True)
class ImportOptions:
    """How files are read. The ids of records come from `source`, or else the name of the file."""

    format: str = RECORDS
    zone: ZoneInfo | None = None
    source: str | None = None
    dry_run: bool = False
    rejects: Path | None = None
    complete: bool = False

    def source_of(self, path: str) -> str:
        return one_spelling(self.source or source_name(path))


@dataclass
class ImportReport:
    """What an import did with the lines of a file; blank lines don't count."""

    name: str
    dry_run: bool = False
    read: int = 0
    added: int = 0
    already_known: int = 0
    rejected: int = 0
    seconds: float = 0.0
    rejects: Path | None = None
    first_rejections: list[Rejection] = field(default_factory=list)

    @property
    def rows_per_second(self) -> float:
        return self.read / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        outcome = (
            f"{self.read - self.rejected:,} could be imported"
            if self.dry_run
            else f"{self.added:,} added, {self.already_known:,} already known"
        )
        return (
            f"{self.read:,} read, {outcome}, {self.rejected:,} rejected in {self.seconds:.1f} s"
            f" ({self.rows_per_second:,.0f} rows/s)"
        )

    def count(self, batch: Batch, written: Written) -> list[Rejection]:
        """Add what became of a batch; return its rejections in the order of the lines."""
        rejections = sorted(batch.rejected + written.refused)
        self.read += batch.read
        self.added += written.added
        self.already_known += written.already_known
        self.rejected += len(rejections)
        self.first_rejections += rejections[: REPORTED_REJECTIONS - len(self.first_rejections)]
        return rejections


class ImportStoppedError(ImportFileError):
    """The import stopped before the end of the file; `report` counts what was written."""

    def __init__(self, fault: Exception, report: ImportReport) -> None:
        self.report = report
        cause = f"The database stopped the import: {fault}" if _of_database(fault) else str(fault)
        so_far = (
            f"Before that: {report}. Repeat the same command once that is mended: what was added "
            "will be known."
            if report.read and not report.dry_run
            else "Nothing was written."
        )
        super().__init__(f"{cause.strip()} {so_far}")


def check_files(paths: Sequence[str], options: ImportOptions) -> None:
    """Raise ImportFileError when one of the files can be seen not to be importable."""
    if options.rejects and len(paths) > 1:
        raise ImportFileError("--rejects takes the lines of one file. Import one at a time.")
    if paths.count(STANDARD_INPUT) > 1:
        raise ImportFileError("Standard input can be read only once.")
    for path in paths:
        if path != STANDARD_INPUT:
            _check_file(path, options)
        if not options.dry_run or options.rejects:
            refuse_unwritable(options.rejects, path)


def import_file(
    path: str,
    options: ImportOptions,
    on_progress: Callable[[ImportReport, int], None] | None = None,
) -> ImportReport:
    """Import one file, "-" for standard input, and report what became of its lines.

    `on_progress` is told the report so far and the bytes read. Must not be called in a
    transaction: each batch is one. Raises ImportStoppedError.
    """
    started = time.monotonic()
    report = ImportReport(name=path, dry_run=options.dry_run)
    if options.rejects:
        rejects: Iterable[Path] = [options.rejects]
    else:
        rejects = [] if options.dry_run else default_paths(path)
    writer = None if options.dry_run else BatchWriter(options.source_of(path))
    try:
        with (
            _open(path, options) as (lines, line_format),
            RejectsFile(rejects, line_format.header) as rejects_file,
        ):
            for batch in read_ahead(read_batches(lines, line_format, BATCH_LINES)):
                written = writer.write(batch) if writer and batch.good() else Written()
                rejects_file.write(report.count(batch, written))
                if on_progress:
                    on_progress(report, batch.position)
                report.rejects = rejects_file.path
                reset_queries()  # with DEBUG, Django would keep every statement of the import
    except (ImportFileError, DatabaseError) as error:
        report.seconds = time.monotonic() - started
        raise ImportStoppedError(error, report) from error
    report.seconds = time.monotonic() - started
    return report


def _check_file(path: str, options: ImportOptions) -> None:
    if not Path(path).is_fifo():
        with _open(path, options):
            pass
    elif not options.source:  # <(...) has another name each time
        raise ImportFileError(f"{path} is a pipe. Say whose records come from it with --source.")


@contextmanager
def _open(path: str, options: ImportOptions) -> Iterator[tuple[Lines, LineFormat]]:
    make_format = FORMATS.get(options.format)
    if make_format is None:
        raise ImportFileError(
            f"{options.format!r} is not a format. Use one of: {', '.join(FORMATS)}."
        )
    with open_lines(path, options.complete) as lines:
        yield lines, make_format(lines, options.source_of(path), options.zone)


def _of_database(error: Exception) -> bool:
    return isinstance(error, DatabaseError)
