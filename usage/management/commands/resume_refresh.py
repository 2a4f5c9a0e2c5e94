from typing import Any

from usage.management.usage_command import UsageCommand
from usage.services.totals.pause import resume


class Command(UsageCommand):
    help = "Let refreshes run again after pause_refresh. Example: manage.py resume_refresh"

    def handle(self, *_args: Any, **_options: Any) -> None:
        was_paused = resume()
        self.stdout.write(
            "Refreshes run again with the next interval." if was_paused else "They were not paused."
        )
