from argparse import ArgumentParser
from datetime import date
from typing import Any

from django.core.management.base import CommandError
from tqdm import tqdm

from usage.management.usage_command import UsageCommand, day
from usage.models import PeriodTotal
from usage.services.audit.verification import AuditReport, Difference, verify
from usage.services.totals.removals import Removals


class Command(UsageCommand):
    help = (
        "Compare the totals with the raw records and list every key that differs. Exits 1 when "
        "a key differs. Example: manage.py verify_usage --from 2026-11-01 --to 2026-11-30"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--from", type=day, metavar="DATE", dest="from_date")
        parser.add_argument("--to", type=day, metavar="DATE", dest="to_date")
        parser.add_argument(
            "--sample", type=int, metavar="N", help="compare N random subscriptions only"
        )
        parser.add_argument(
            "--repair", action="store_true", help="compute the differing keys again and refresh"
        )
        parser.add_argument(
            "--remove",
            action="store_true",
            help="let --repair remove totals without raw records, also more than a hundredth of "
            "the totals of a day",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["sample"] is not None and not 1 <= options["sample"] <= 100_000:
            raise CommandError("--sample must be from 1 to 100000.")
        if (options["from_date"] or date.min) > (options["to_date"] or date.max):
            raise CommandError("--from must not be after --to.")
        if options["remove"] and not options["repair"]:
            raise CommandError("--remove needs --repair. Give both options.")
        with tqdm(unit=" days", disable=None) as bar:

            def progress(_day: date) -> None:
                bar.update()

            def announce(found: Removals) -> None:
                is_kept = found.are_too_many and not options["remove"]
                verb = "leaves" if is_kept else "removes"
                bar.clear()
                self.stdout.write(f"{found}. A repair {verb} them.")

            report = verify(
                from_date=options["from_date"],
                to_date=options["to_date"],
                sample=options["sample"],
                repair=options["repair"],
                remove=options["remove"],
                progress=progress,
                announce=announce,
            )
        self._print(report)
        if report.open_days_left_out:
            raise CommandError(f"The open days were not compared. {report.open_days_left_out}")
        if report.repaired:
            return
        if report.withheld:
            raise CommandError(
                f"{len(report.withheld)} days have too few raw records to compute their totals "
                "again, as after a restore without raw records. Restore the raw records, or run "
                "again with --repair --remove to remove the totals without raw records."
            )
        if report.differing:
            raise CommandError(
                f"{report.differing} keys differ. Run again with --repair, and find out who wrote "
                "past the triggers: to a partition itself, by ATTACH, or by logical replication."
            )
        if report.periods_differing:
            raise CommandError(
                f"{report.periods_differing} totals of periods differ from the daily totals. Run "
                "again with --repair, and find out who wrote to usage_daily_sealed or "
                "usage_period_total."
            )

    def _print(self, report: AuditReport) -> None:
        for difference in report.differences:
            self.stdout.write(_line(difference, f"{difference.day}"))
        for difference in report.period_differences:
            is_month = difference.day != PeriodTotal.ALL_DAYS
            self.stdout.write(
                _line(difference, f"{difference.day:%Y-%m}" if is_month else "all days")
            )
        unnamed = report.differing - len(report.differences)
        unnamed += report.periods_differing - len(report.period_differences)
        if unnamed:
            self.stdout.write(f"... and {unnamed} more keys")
        subscriptions = "all" if report.subscriptions is None else report.subscriptions
        self.stdout.write(
            f"Compared {subscriptions} subscriptions on {report.sealed_days} sealed days and the "
            f"open ones: {report.differing} keys and {report.periods_differing} totals of periods "
            f"differ{', repaired' if report.repaired else ''}."
        )


def _line(difference: Difference, when: str) -> str:
    return (
        f"subscription {difference.subscription_id} {when} {difference.usage_type}: total "
        f"{difference.total_price} of {difference.record_count} records, expected "
        f"{difference.expected_price} of {difference.expected_count}"
    )
