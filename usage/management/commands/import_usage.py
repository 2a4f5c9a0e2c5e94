import shlex
import zoneinfo
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from usage.errors import ImportFileError
from usage.management.terminal import one_line
from usage.management.usage_command import UsageCommand
from usage.models import UsageType
from usage.services.imports import Importer, ImportOptions, ImportReport
from usage.services.imports.formats import FORMATS, RECORDS
from usage.services.imports.lines import STANDARD_INPUT

CANNOT_BE_IMPORTED = 2
INTERRUPTED = 130
MOST_FUTURE_DAYS = 36_500

HELP = f"""\
Import usage records from files, plain or compressed with gzip. A second import of the same file
adds nothing; after an interruption run the same command again.

Examples:
  manage.py import_usage usage.csv
  manage.py import_usage calls.csv.gz --format calls --zone Europe/London
  zcat calls-*.gz | manage.py import_usage - --source network-a --format calls --zone UTC

Format records: CSV with a header that names usage_type ({" or ".join(UsageType.values)}),
external_id, usage_date (ISO 8601 with an offset, or local time with --zone), price, quantity (in
the unit of the usage type) and record_key, in any order. Format calls: call records, ten columns
without a header (call id, number, line, destination, start and end day, start and end time, type,
pence).

Source, record key, subscription and moment identify a record. The first line of a record is kept;
later lines with another price or quantity are counted and listed. These lines and rejected lines
go to a CSV file with their number and the reason: FILE.rejects beside FILE, or FILE.rejects-2 if
that exists. Correct that file and import it with the --source of the first file.

A record more than a day ahead is rejected, unless --future allows more days. A last line without
a line end is rejected, unless --complete says that it is complete. Local times are read with the
zone data of PostgreSQL, which cuts the days. The last message about a file lists the days that it
touched.

Exits 0 when every line was added or known, 1 when lines were rejected or differ, 2 when a file
could not be imported.
"""


def time_zone(name: str) -> str:
    if name not in zoneinfo.available_timezones():
        raise ArgumentTypeError(f"{name!r} is not an IANA time zone such as Europe/London")
    return name


def days(text: str) -> int:
    if not text.isdecimal() or int(text) > MOST_FUTURE_DAYS:
        raise ArgumentTypeError(f"{text!r} is not a number of days from 0 to {MOST_FUTURE_DAYS}")
    return int(text)


class Command(UsageCommand):
    help = HELP

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.formatter_class = RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE", help="- reads standard input")
        parser.add_argument("--format", choices=FORMATS, default=RECORDS)
        parser.add_argument(
            "--zone", type=time_zone, help="the time zone of times without an offset"
        )
        parser.add_argument(
            "--source", help="the system that assigned the record keys; default the file name"
        )
        parser.add_argument(
            "--future",
            type=days,
            default=1,
            metavar="DAYS",
            help="reject records more than DAYS ahead of now; default 1",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="report what an import would do; write nothing"
        )
        parser.add_argument(
            "--complete",
            action="store_true",
            help="accept a last line without a line end",
        )
        parser.add_argument(
            "--rejects",
            type=Path,
            metavar="PATH",
            help="a new file for rejected lines; default FILE.rejects beside FILE",
        )

    def handle(self, *_args: Any, files: list[str], **options: Any) -> None:
        names = ("format", "zone", "source", "dry_run", "rejects", "complete", "future")
        import_options = ImportOptions(**{name: options[name] for name in names})
        importer = Importer(import_options)
        try:
            importer.check(files)
            reports = [self._import(path, importer, import_options) for path in files]
        except ImportFileError as error:
            raise CommandError(str(error), returncode=CANNOT_BE_IMPORTED) from error
        if faults := list(_faults(reports)):
            raise CommandError(" ".join(faults), returncode=1)

    def _import(self, path: str, importer: Importer, options: ImportOptions) -> ImportReport:
        size = 0 if path == STANDARD_INPUT else Path(path).stat().st_size
        done = ImportReport(path)
        with tqdm(
            total=size or None,
            desc=one_line(Path(path).name),
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
                report = importer.run(path, show)
            except KeyboardInterrupt as error:
                so_far = (
                    "Nothing was written."
                    if options.dry_run
                    else f"{done.added:,} records were added; run the same command again, and they "
                    f"will be known. {done.touched()}"
                )
                raise CommandError(
                    f"Interrupted after line {done.read:,}. {so_far}", returncode=INTERRUPTED
                ) from error
        self.stdout.write(f"{one_line(path)}: {report}")
        for line, reason, _ in report.first_rejections:
            self.stdout.write(one_line(f"  line {line:,}: {reason}"))
        if report.rejects:
            rejects = (
                f"  Rejected lines are in {report.rejects}. Once they are corrected, import that "
                f"file with the same options and --source {shlex.quote(options.source_of(path))}"
            )
            self.stdout.write(one_line(rejects))
        self.stdout.write(f"  {report.touched()}")
        return report


def _faults(reports: list[ImportReport]) -> Iterator[str]:
    if rejected := sum(report.rejected for report in reports):
        yield f"{rejected:,} {'line was' if rejected == 1 else 'lines were'} rejected."
    if differing := sum(report.differing for report in reports):
        lines = "line differs" if differing == 1 else "lines differ"
        yield f"{differing:,} {lines} from the records that are kept."
