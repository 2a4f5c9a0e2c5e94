import shlex
import zoneinfo
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from usage.errors import ImportFileError
from usage.services.imports import ImportOptions, ImportReport, check_files, import_file
from usage.services.imports.formats import FORMATS, RECORDS
from usage.services.imports.lines import STANDARD_INPUT

CANNOT_BE_IMPORTED = 2
INTERRUPTED = 130

HELP = """\
Import usage records from files, as they are or compressed with gzip. The same file twice adds
nothing; after an interruption run the same command again.

Examples:
  manage.py import_usage usage.csv
  manage.py import_usage calls.csv.gz --format calls --zone Europe/London
  zcat calls-*.gz | manage.py import_usage - --source network-a --format calls --zone UTC

Format records: CSV with a header that names usage_type (data or voice), external_id,
usage_date (ISO 8601 with an offset, or local time with --zone), price, quantity (kilobytes or
seconds) and record_key, in any order. Format calls: call records without a header, ten columns
(call id, number, line, destination, start and end day, start and end time, type, pence).

A record is known by its source, record key, subscription and moment. Values of a known record
are not changed. Lines that hold no good record are counted and go to a CSV file with their
number and the reason: FILE.rejects beside FILE, or FILE.rejects-2 where that exists. Corrected,
it can be imported itself, with the --source of the first file.

Exits 0 when every line was added or known, 1 when lines were rejected, 2 when a file could not
be imported.
"""


def time_zone(name: str) -> zoneinfo.ZoneInfo:
    if name not in zoneinfo.available_timezones():
        raise ArgumentTypeError(f"{name!r} is not an IANA time zone such as Europe/London")
    return zoneinfo.ZoneInfo(name)


class Command(BaseCommand):
    help = HELP

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.formatter_class = RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE", help="- reads standard input")
        parser.add_argument("--format", choices=FORMATS, default=RECORDS)
        parser.add_argument(
            "--zone", type=time_zone, help="where times without an offset are local"
        )
        parser.add_argument(
            "--source", help="whose record keys these are; the name of the file unless given"
        )
        parser.add_argument("--dry-run", action="store_true", help="read and report, write nothing")
        parser.add_argument(
            "--complete",
            action="store_true",
            help="the last line is whole although it has no line end",
        )
        parser.add_argument(
            "--rejects",
            type=Path,
            metavar="PATH",
            help="where rejected lines go, a new file; FILE.rejects beside FILE unless given",
        )

    def handle(self, *_args: Any, files: list[str], **options: Any) -> None:
        names = ("format", "zone", "source", "dry_run", "rejects", "complete")
        import_options = ImportOptions(**{name: options[name] for name in names})
        try:
            check_files(files, import_options)
            reports = [self._import(path, import_options) for path in files]
        except ImportFileError as error:
            raise CommandError(str(error), returncode=CANNOT_BE_IMPORTED) from error
        if rejected := sum(report.rejected for report in reports):
            were = "line was" if rejected == 1 else "lines were"
            raise CommandError(f"{rejected:,} {were} rejected.", returncode=1)

    def _import(self, path: str, options: ImportOptions) -> ImportReport:
        size = 0 if path == STANDARD_INPUT else Path(path).stat().st_size
        done = ImportReport(path)
        with tqdm(
            total=size or None,
            desc=Path(path).name,
            unit="B",
            unit_scale=True,
            disable=not self.stderr.isatty(),
        ) as bar:

            def show(so_far: ImportReport, position: int) -> None:
                nonlocal done
                done = so_far
                bar.set_postfix_str(f"{so_far.read:,} lines", refresh=False)
                bar.update(position - bar.n)

            try:
                report = import_file(path, options, show)
            except KeyboardInterrupt as error:
                raise CommandError(
                    f"Interrupted after line {done.read:,}. {done.added:,} records were added; "
                    "run the same command again, and they will be known.",
                    returncode=INTERRUPTED,
                ) from error
        self.stdout.write(f"{path}: {report}")
        for line, reason, _ in report.first_rejections:
            self.stdout.write(f"  line {line:,}: {reason}")
        if report.rejects:
            self.stdout.write(
                f"  Rejected lines are in {report.rejects}. Once they are corrected, import that "
                f"file with the same options and --source {shlex.quote(options.source_of(path))}"
            )
        return report
