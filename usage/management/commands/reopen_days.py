from typing import Any

from usage.management.usage_command import UsageCommand
from usage.services.totals.reopen import reopen


class Command(UsageCommand):
    help = (
        "Open days again that were sealed or closed too early because the clock of the database "
        "was ahead. Correct the clock first. Dropped records do not come back. "
        "Example: manage.py reopen_days"
    )

    def handle(self, *_args: Any, **_options: Any) -> None:
        report = reopen()
        self.stdout.write(f"Today is {report.today}, by the clock of the database.")
        if report.writable_from is not None:
            self.stdout.write(f"Records of days from {report.writable_from} on are taken again.")
        if report.open_from is not None:
            self.stdout.write(f"Days from {report.open_from} on are open again.")
        if report.writable_from is None and report.open_from is None:
            self.stdout.write("No day was sealed or closed too early.")
