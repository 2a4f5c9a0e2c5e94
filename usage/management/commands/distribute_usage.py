from argparse import ArgumentParser
from typing import Any

from usage.management.usage_command import UsageCommand
from usage.services.capture.citus import distribute


class Command(UsageCommand):
    help = (
        "Spread the raw records over the workers of a Citus cluster, by subscription. The totals "
        "stay on the coordinator. It needs USAGE_LATE_KEYS=window. docs/scaling.md says when it is "
        "worth it. Example: manage.py distribute_usage --dry-run"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="say what would be spread")

    def handle(self, *_args: Any, **options: Any) -> None:
        tables = distribute(dry_run=options["dry_run"])
        if not tables:
            self.stdout.write("The raw records are spread already.")
        else:
            verb = "Would spread" if options["dry_run"] else "Spread"
            self.stdout.write(f"{verb} {', '.join(tables)} by subscription_id.")
