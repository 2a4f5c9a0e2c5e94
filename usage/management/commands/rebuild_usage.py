from argparse import ArgumentParser
from datetime import date
from typing import Any

from django.core.management.base import CommandError
from tqdm import tqdm

from usage.errors import UsageError
from usage.management.usage_command import UsageCommand, day
from usage.services.audit.verification import rebuild


class Command(UsageCommand):
    help = (
        "Compute the totals of kept days again from the raw records, a day at a time. Readers "
        "continue. After an interruption run it again from the day that it reached. "
        "Example: manage.py rebuild_usage --from 2026-11-01 --to 2026-11-30"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        for name in ["from", "to"]:
            parser.add_argument(
                f"--{name}",
                type=day,
                metavar="DATE",
                dest=f"{name}_date",
                required=True,
            )
        parser.add_argument(
            "--remove",
            action="store_true",
            help="remove totals without raw records, also more than a hundredth of the totals of a "
            "day",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["from_date"] > options["to_date"]:
            raise CommandError("--from must not be after --to.")
        reached: list[date] = []
        try:
            with tqdm(unit=" days", disable=None) as bar:

                def progress(day: date) -> None:
                    reached.append(day)
                    bar.set_postfix_str(day.isoformat())
                    bar.update()

                changed = rebuild(
                    from_date=options["from_date"],
                    to_date=options["to_date"],
                    remove=options["remove"],
                    progress=progress,
                )
        except UsageError as error:
            again = f" Go on with --from {reached[-1]}." if reached else ""
            raise CommandError(f"{error}{again}") from error
        self.stdout.write(f"Rebuilt {len(reached)} sealed days: {changed} rows changed.")
