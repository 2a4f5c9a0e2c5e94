from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from usage.management.usage_command import UsageCommand
from usage.services.totals.late_keys_switch import switch


class Command(UsageCommand):
    help = (
        "Switch the late keys mode of the database to USAGE_LATE_KEYS: triggers (records may be "
        "late) or window (every day with raw records is open). Stop all processes and set "
        "USAGE_LATE_KEYS to the new mode first. No total changes. "
        "Example: manage.py switch_late_keys --dry-run"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="say what would be done")

    def handle(self, *_args: Any, **options: Any) -> None:
        wanted = settings.USAGE_LATE_KEYS
        if not switch(dry_run=options["dry_run"]):
            self.stdout.write(f"This database has {wanted} already.")
        elif options["dry_run"]:
            self.stdout.write(f"Would switch to {wanted}.")
        else:
            self.stdout.write(f"Switched to {wanted}. Start the processes again.")
