from argparse import ArgumentParser
from typing import Any

from usage.management.usage_command import UsageCommand
from usage.services.capture import triggers


class Command(UsageCommand):
    help = (
        "Enable the triggers that capture late records again. Writers of raw records wait for a "
        "moment. Each of the next refreshes then audits one sealed day. "
        "Example: manage.py enable_triggers --dry-run"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say what is wrong")

    def handle(self, *_args: Any, **options: Any) -> None:
        faults = triggers.enable(dry_run=options["dry_run"])
        for fault in faults:
            self.stdout.write(f"Found: {fault}.")
        if not faults:
            self.stdout.write("Every trigger is on.")
        elif options["dry_run"]:
            self.stdout.write("Nothing was changed.")
        else:
            self.stdout.write("Every trigger is on again. The next refreshes audit sealed days.")
