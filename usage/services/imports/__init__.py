"""The import of files with usage records. A second import of a file changes nothing."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from django.db import DatabaseError, reset_queries

from usage.database.zones import refuse_misread_zone, server_zone
from usage.errors import ImportFileError, TimeZoneMisreadError
from usage.services.imports.batches import read_ahead, read_batches
from usage.services.imports.fields import one_spelling
from usage.services.imports.formats import FORMATS, RECORDS, LineFormat
from usage.services.imports.lines import STANDARD_INPUT, Lines, open_lines, source_name
from usage.services.imports.rehearsal import Rehearsal, begin_rehearsal
from usage.services.imports.rejects import RejectsFile, default_paths, refuse_unwritable
from usage.services.imports.report import ImportReport, ImportStoppedError
from usage.services.imports.staging import Written
from usage.services.imports.values import EARLIEST, LATEST, Moments
from usage.services.imports.writer import BatchWriter
from usage.services.raw import clock

__all__ = ["ImportOptions", "ImportReport", "ImportStoppedError", "Importer", "import_file"]

BATCH_LINES = 50_000

OnProgress = Callable[[ImportReport, int], None]


@dataclass(frozen=True)
class ImportOptions:
    """Options of an import. The ids of records are derived from `source`, by default the name of
    the file.

    `future` is how many days ahead of the clock of the database a record may be.
    """

    format: str = RECORDS
    zone: str | None = None
    source: str | None = None
    dry_run: bool = False
    rejects: Path | None = None
    complete: bool = False
    future: int = 1

    def source_of(self, path: str) -> str:
        return one_spelling(self.source or source_name(path))


class Importer:
    """An importer of several files with the same options."""

    def __init__(self, options: ImportOptions) -> None:
        self._options = options
        self._has_begun = False

    def check(self, paths: Sequence[str]) -> None:
        """Raise ImportFileError if a check before the import shows that a file would fail."""
        options = self._options
        if options.rejects and len(paths) > 1:
            raise ImportFileError("--rejects takes the lines of one file. Import one at a time.")
        if paths.count(STANDARD_INPUT) > 1:
            raise ImportFileError("Standard input can be read only once.")
        try:
            for path in paths:
                if path != STANDARD_INPUT:
                    self._check_file(path)
                if not options.dry_run or options.rejects:
                    refuse_unwritable(options.rejects, path)
        except DatabaseError as error:
            raise ImportStoppedError(error, ImportReport(paths[0])) from error

    def run(self, path: str, on_progress: OnProgress | None = None) -> ImportReport:
        """Import one file, or standard input for "-", and return a report on its lines.

        `on_progress` is called with the report so far and the bytes read. Must not be called in a
        transaction: each batch has its own. Raises ImportStoppedError.
        """
        started = time.monotonic()
        report = ImportReport(name=path, dry_run=self._options.dry_run)
        try:
            with (
                self._open(path) as (lines, line_format),
                RejectsFile(self._rejects_paths(path), line_format.header) as rejects,
            ):
                writer = self._writer(path)
                for batch in read_ahead(read_batches(lines, line_format, BATCH_LINES)):
                    written = writer.write(batch) if batch.good() else Written()
                    rejects.write(report.count(batch, written))
                    report.rejects = rejects.path
                    if on_progress:
                        on_progress(report, batch.position)
                    reset_queries()  # with DEBUG, Django keeps the text of every statement
        except (ImportFileError, DatabaseError) as error:
            report.seconds = time.monotonic() - started
            raise ImportStoppedError(error, report) from error
        report.seconds = time.monotonic() - started
        return report

    @cached_property
    def _moments(self) -> Moments:
        now = clock.now()
        latest = min(now.timestamp() + self._options.future * 86_400, LATEST)
        name = self._options.zone
        if name is None:
            return Moments(None, self._options.future, latest)
        try:
            refuse_misread_zone(name, f"--zone {name}")
        except TimeZoneMisreadError as error:
            raise ImportFileError(str(error)) from error
        first, end = (datetime.fromtimestamp(moment, UTC) for moment in (EARLIEST, latest))
        day = timedelta(days=1)  # local times differ from UTC by less than a day
        return Moments(server_zone(name, first - day, end + day), self._options.future, latest)

    @contextmanager
    def _open(self, path: str) -> Iterator[tuple[Lines, LineFormat]]:
        options = self._options
        make_format = FORMATS.get(options.format)
        if make_format is None:
            raise ImportFileError(
                f"{options.format!r} is not a format. Use one of: {', '.join(FORMATS)}."
            )
        with open_lines(path, options.complete) as lines:
            yield lines, make_format(lines, options.source_of(path), self._moments)

    def _check_file(self, path: str) -> None:
        if not Path(path).is_fifo():
            with self._open(path):
                pass
        elif not self._options.source:  # the name of a <(...) differs each time
            raise ImportFileError(
                f"{path} is a pipe. Name the source of its records with --source."
            )

    def _rejects_paths(self, path: str) -> Iterable[Path]:
        if self._options.rejects:
            return [self._options.rejects]
        return [] if self._options.dry_run else default_paths(path)

    def _writer(self, path: str) -> BatchWriter:
        source = self._options.source_of(path)
        if not self._options.dry_run:
            return BatchWriter(source)
        if not self._has_begun:
            begin_rehearsal()
            self._has_begun = True
        return Rehearsal(source)


def import_file(
    path: str, options: ImportOptions, on_progress: OnProgress | None = None
) -> ImportReport:
    """Import one file; see Importer.run."""
    return Importer(options).run(path, on_progress)
