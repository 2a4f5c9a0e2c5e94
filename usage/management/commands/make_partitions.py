from typing import Any

from usage.management.usage_command import UsageCommand
from usage.services.raw.partitions import DAYS_AHEAD, maintain_partitions


class Command(UsageCommand):
    help = (
        f"Make the partitions of the raw tables from today to {DAYS_AHEAD} days ahead. Beat does "
        "this every day. Example: manage.py make_partitions"
    )

    def handle(self, *_args: Any, **_options: Any) -> None:
        days = maintain_partitions()
        self.stdout.write(
            f"Made partitions for {', '.join(day.isoformat() for day in days) or 'no day'}."
        )
