from datetime import date
from typing import Any

from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from usage.management.usage_command import UsageCommand, day
from usage.services.samples.generator import GenerateArgumentError, generate_usage


class Command(UsageCommand):
    help = (
        "Generate usage for demonstrations and measurements: data and voice records of the days "
        "before today, for the subscriptions sub-000001, sub-000002 and so on. Missing "
        "subscriptions are made. The same arguments make the same records, so a second run adds "
        "none. "
        "Example: manage.py generate_usage --subscriptions 200 --days 30 --records 100000"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--subscriptions", type=int, required=True, metavar="N")
        parser.add_argument("--days", type=int, required=True, metavar="D")
        parser.add_argument("--records", type=int, required=True, metavar="R")
        parser.add_argument("--seed", type=int, default=1, help="other seeds make other records")
        parser.add_argument(
            "--until",
            type=day,
            metavar="DAY",
            help="the day after the last day; default today",
        )

    def handle(
        self,
        *_args: Any,
        subscriptions: int,
        days: int,
        records: int,
        seed: int,
        until: date | None,
        **_options: Any,
    ) -> None:
        with tqdm(
            total=records, unit=" records", unit_scale=True, disable=not self.stderr.isatty()
        ) as bar:
            try:
                report = generate_usage(
                    subscriptions=subscriptions,
                    days=days,
                    records=records,
                    seed=seed,
                    until=until,
                    on_progress=bar.update,
                )
            except GenerateArgumentError as error:
                raise CommandError(str(error)) from error
        self.stdout.write(f"{report}. Show them in the totals: manage.py refresh_usage")
