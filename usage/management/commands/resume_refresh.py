from typing import Any

from django.core.management.base import BaseCommand, CommandError

from usage.errors import RefreshRunningError
from usage.services.refresh import resume


class Command(BaseCommand):
    help = "Let refreshes run again after pause_refresh. Example: manage.py resume_refresh"

    def handle(self, *_args: Any, **_options: Any) -> None:
        try:
            was_paused = resume()
        except RefreshRunningError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            "Refreshes run again with the next interval." if was_paused else "They were not paused."
        )
