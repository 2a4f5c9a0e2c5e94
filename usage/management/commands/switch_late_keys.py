from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from usage.management.usage_command import UsageCommand
from usage.services.late_keys import switch


class Command(UsageCommand):
    help = (
        "Bring the database to what USAGE_LATE_KEYS says, with all processes stopped: triggers "
        "(records may come late for days that are over) or window (every day with raw records is "
        "open). No total changes. Set USAGE_LATE_KEYS to the new one first. "
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
