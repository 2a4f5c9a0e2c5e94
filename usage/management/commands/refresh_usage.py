from typing import Any

from django.core.management.base import BaseCommand, CommandError

from usage.errors import UsageError
from usage.models import RefreshRun
from usage.services.refresh import refresh


class Command(BaseCommand):
    help = (
        "Refresh the daily totals now and print how it went. Exits 1 when the run was skipped or "
        "failed. Example: manage.py refresh_usage"
    )

    def handle(self, *_args: Any, **_options: Any) -> None:
        try:
            run = refresh(trigger=RefreshRun.Trigger.COMMAND)
        except UsageError as error:
            raise CommandError(str(error)) from error
        if run.status == RefreshRun.Status.SKIPPED:
            raise CommandError(f"Skipped. {run.error}")
        self.stdout.write(
            f"Refreshed in {run.seconds:.2f} s: {run.open_rows} open rows, "
            f"{run.keys_repaired} late keys repaired, {run.days_sealed} days sealed, "
            f"as of {run.as_of:%Y-%m-%d %H:%M:%S} UTC."
        )
