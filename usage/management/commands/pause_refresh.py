from typing import Any

from django.core.management.base import BaseCommand, CommandError

from usage.errors import RefreshRunningError
from usage.services.refresh import pause


class Command(BaseCommand):
    help = (
        "Pause refreshes for a maintenance window: when it returns, none is running and none "
        "starts until resume_refresh. Example: manage.py pause_refresh"
    )

    def handle(self, *_args: Any, **_options: Any) -> None:
        try:
            paused_at = pause()
        except RefreshRunningError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"Refreshes are paused since {paused_at:%Y-%m-%d %H:%M:%S} UTC. "
            "The totals age until: manage.py resume_refresh"
        )
