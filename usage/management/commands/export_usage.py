from argparse import RawDescriptionHelpFormatter
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.http import QueryDict
from rest_framework.exceptions import ValidationError
from tqdm import tqdm

from usage import selectors
from usage.api import endpoints
from usage.api.csv_responses import ROWS_PER_CHUNK
from usage.api.filters import CSV
from usage.api.lists import ListEndpoint
from usage.api.tables import flat_batches
from usage.management.terminal import one_line
from usage.management.usage_command import UsageCommand
from usage.notation import moment_text
from usage.selectors import Source
from usage.services.exports import Batch
from usage.services.exports.csv_text import csv_chunks
from usage.services.exports.files import STANDARD_OUTPUT, whole_file
from usage.services.exports.parquet import ROWS_PER_GROUP, write_parquet

PARQUET = "parquet"
ROWS_AT_ONCE = {CSV: ROWS_PER_CHUNK, PARQUET: ROWS_PER_GROUP}
INTERRUPTED = 130

LISTS: dict[str, type[ListEndpoint]] = {
    "over-limit": endpoints.OverLimit,
    "totals": endpoints.Totals,
    "daily": endpoints.Daily,
    "records": endpoints.Records,
    "subscriptions": endpoints.Subscriptions,
}
# The parameters of the API, without those that choose the form of a response.
PARAMETERS = {
    name: parameter
    for endpoint in LISTS.values()
    for name, parameter in endpoint.filterset_class.base_filters.items()
    if name not in {"page_size", "cursor", "format"}
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
        endpoint = LISTS[what]()
        parameters = checked(endpoint, what, options)
        state = selectors.totals_state()
        source = endpoint.source(parameters, state)
        about = {
            "as_of": moment_text(state.moment_of(source)),
            "live": "true" if source is Source.LIVE else "false",
            "time_zone": state.time_zone,
            "currency": settings.USAGE_CURRENCY,
        }
        batches = flat_batches(endpoint, parameters, source, size=ROWS_AT_ONCE[format])
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
                    write_parquet(output, endpoint.columns, counted(), about)
                else:
                    output.writelines(csv_chunks(endpoint.columns, counted()))
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
    endpoint: ListEndpoint, what: str, options: Mapping[str, list[str] | None]
) -> dict[str, Any]:
    """Return the values of the options, parsed like the parameters of the API.

    Raises CommandError with every fault of every option.
    """
    query = QueryDict(mutable=True)
    for name in PARAMETERS:
        if (values := options[name]) is not None:
            query.setlist(name, values)
    try:
        return endpoint.filterset_class(query, format_accepted=CSV).parameters
    except ValidationError as error:
        faults: Any = error.detail
        lines = [
            f"{option(name)}: {f'Not for --what {what}.' if fault.code == 'unknown' else fault}"
            for name in faults
            for fault in faults[name]
        ]
        raise CommandError("\n".join(sorted(lines))) from error
