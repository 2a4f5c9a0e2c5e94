from typing import Any

from django.core.management.base import CommandError

from usage.management.usage_command import UsageCommand
from usage.models import RefreshRun
from usage.services.totals.refresh import refresh


class Command(UsageCommand):
    help = (
        "Refresh the daily totals now and print how it went. Exits 1 when the run was skipped or "
        "failed. Example: manage.py refresh_usage"
    )

    def handle(self, *_args: Any, **_options: Any) -> None:
        run = refresh(trigger=RefreshRun.Trigger.COMMAND)
        if run.status == RefreshRun.Status.SKIPPED:
            raise CommandError(f"Skipped. {run.error}")
        self.stdout.write(
            f"Refreshed in {run.seconds:.2f} s: {run.open_rows} open rows, "
            f"{run.keys_repaired} late keys repaired, {run.days_sealed} days sealed, "
            f"as of {run.as_of:%Y-%m-%d %H:%M:%S} UTC."
        )
        if run.remark:
            self.stdout.write(run.remark)
