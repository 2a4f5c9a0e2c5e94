from typing import Any

from usage.management.usage_command import UsageCommand
from usage.services.totals.pause import pause


class Command(UsageCommand):
    help = (
        "Pause refreshes for a maintenance window. When the command returns, no refresh is running "
        "and none starts until resume_refresh. Example: manage.py pause_refresh"
    )

    def handle(self, *_args: Any, **_options: Any) -> None:
        paused_at = pause()
        self.stdout.write(
            f"Refreshes are paused since {paused_at:%Y-%m-%d %H:%M:%S} UTC. "
            "The totals grow old until you run: manage.py resume_refresh"
        )
