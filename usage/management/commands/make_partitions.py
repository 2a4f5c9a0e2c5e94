from typing import Any

from django.core.management.base import BaseCommand, CommandError

from usage.errors import RefreshRunningError
from usage.services.partitions import DAYS_AHEAD, maintain_partitions


class Command(BaseCommand):
    help = (
        f"Make the partitions of the raw tables from today to {DAYS_AHEAD} days ahead, as beat "
        "does every day. Example: manage.py make_partitions"
    )

    def handle(self, *_args: Any, **_options: Any) -> None:
        try:
            days = maintain_partitions()
        except RefreshRunningError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"Made partitions for {', '.join(day.isoformat() for day in days) or 'no day'}."
        )
