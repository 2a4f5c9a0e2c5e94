from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from usage.management.usage_command import UsageCommand
from usage.services.totals.retention import prune


class Command(UsageCommand):
    help = (
        "Drop raw records older than USAGE_RAW_RETENTION_DAYS; their totals stay. Delete totals "
        "older than USAGE_TOTALS_RETENTION_DAYS. Beat does this every day. "
        "Example: manage.py prune_usage --dry-run"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="say what would be dropped")
        parser.add_argument(
            "--days-passed",
            action="store_true",
            help="follow the clock to its day at once, however far ahead of the last prune it is; "
            "without this option follow it at most 3 days, since a wrong clock would drop all days",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        report = prune(dry_run=options["dry_run"], days_passed=options["days_passed"])
        verb = "Would delete" if options["dry_run"] else "Deleted"
        drop_verb = "Would drop" if options["dry_run"] else "Dropped"
        if report.first_kept_day is None:
            self.stdout.write("Raw records are kept: no day is sealed or no retention is set.")
        else:
            self.stdout.write(f"Raw records are kept from {report.first_kept_day}.")
            self.stdout.write(f"{drop_verb} {len(report.partitions_dropped)} partitions.")
            self.stdout.write(f"{verb} {report.strays_deleted} records of the default partitions.")
        if report.future_after is not None:
            self.stdout.write(
                f"{verb} {report.future_deleted} records of days after {report.future_after}."
            )
        if report.held:
            self.stdout.write(report.held)
        if report.partitions_left:
            self.stdout.write(
                f"{len(report.partitions_left)} partitions stayed locked: the next run drops them."
            )
        self.stdout.write(f"{verb} {report.totals_deleted} daily totals.")
        if report.waits_for:
            raise CommandError(
                "Nothing was dropped yet: open transactions could still change these days. "
                "Waiting for " + "; ".join(map(str, report.waits_for))
            )
