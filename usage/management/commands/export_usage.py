from argparse import RawDescriptionHelpFormatter
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser
from django.utils.datastructures import MultiValueDict
from tqdm import tqdm

from usage import selectors
from usage.lists.all_lists import LISTS
from usage.lists.filters import CSV
from usage.lists.usage_list import UsageList
from usage.management.terminal import one_line
from usage.management.usage_command import UsageCommand
from usage.notation import moment_text
from usage.selectors import Source
from usage.services.exports import Batch
from usage.services.exports.csv_text import ROWS_PER_CHUNK, csv_chunks
from usage.services.exports.files import STANDARD_OUTPUT, whole_file
from usage.services.exports.parquet import ROWS_PER_GROUP, write_parquet

PARQUET = "parquet"
ROWS_AT_ONCE = {CSV: ROWS_PER_CHUNK, PARQUET: ROWS_PER_GROUP}
INTERRUPTED = 130

PARAMETERS = {
    name: parameter
    for usage_list in LISTS.values()
    for name, parameter in usage_list.file_filter_class.base_filters.items()
}

HELP = """\
Write a list of the API to a file: every row, with the columns, values and parameters of the CSV
of the API (docs/api.md).

Examples:
  manage.py export_usage november.csv --what totals --month 2026-11
  manage.py export_usage - --what over-limit --price-limit 150 | head
  manage.py export_usage daily.parquet --what daily --ordering=-day --format parquet

Only the owner can read the file. It replaces an earlier file once it is complete; after an error
the earlier file stays. Parquet needs pyarrow; its decimals are exact.
"""


class Command(UsageCommand):
    help = HELP

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.formatter_class = RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", help="- writes to standard output")
        parser.add_argument("--what", choices=LISTS, required=True, help="the list")
        parser.add_argument("--format", choices=ROWS_AT_ONCE, default=CSV)
        for name, parameter in PARAMETERS.items():
            if name == "live":
                parser.add_argument("--live", action="store_const", const=["true"])
            else:
                parser.add_argument(
                    option(name), action="append", metavar="VALUE", help=parameter.field.allowed
                )

    def handle(self, *_args: Any, file: str, what: str, format: str, **options: Any) -> None:
        usage_list = LISTS[what]
        parameters = checked(usage_list, what, options)
        state = selectors.totals_state()
        source = usage_list.source(parameters, state)
        about = {
            "as_of": moment_text(state.moment_of(source)),
            "live": "true" if source is Source.LIVE else "false",
            "time_zone": state.time_zone,
            "currency": settings.USAGE_CURRENCY,
        }
        batches = usage_list.batches(parameters, source, size=ROWS_AT_ONCE[format])
        written = 0
        try:
            with (
                tqdm(unit=" rows", unit_scale=True, disable=not self.stderr.isatty()) as bar,
                whole_file(file) as output,
                closing(batches),
            ):

                def counted() -> Iterator[Batch]:
                    nonlocal written
                    for batch in batches:
                        yield batch
                        written += len(batch)
                        bar.update(len(batch))

                if format == PARQUET:
                    write_parquet(output, usage_list.columns, counted(), about)
                else:
                    output.writelines(csv_chunks(usage_list.columns, counted()))
        except KeyboardInterrupt as error:
            raise CommandError(
                "Interrupted. Nothing was replaced.", returncode=INTERRUPTED
            ) from error
        # Standard output may hold the rows, which a script reads.
        messages = self.stderr if file == STANDARD_OUTPUT else self.stdout
        messages.write(f"{one_line(file)}: {written:,} rows of {what} as of {about['as_of']}")


def option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def checked(
    usage_list: UsageList, what: str, options: Mapping[str, list[str] | None]
) -> dict[str, Any]:
    """Return the values of the options, parsed like the parameters of the API.

    Raises CommandError with every fault of every option.
    """
    query: MultiValueDict[str, str] = MultiValueDict()
    for name in PARAMETERS:
        if (values := options[name]) is not None:
            query.setlist(name, values)
    try:
        return usage_list.file_filter_class(query, default_format=CSV).parameters
    except ValidationError as error:
        lines = [
            f"{option(name)}: "
            f"{f'Not for --what {what}.' if fault.code == 'unknown' else fault.message}"
            for name, faults in error.error_dict.items()
            for fault in faults
        ]
        raise CommandError("\n".join(sorted(lines))) from error
