"""What every command of ours does with errors: say what to do next, without a traceback."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError

from usage.errors import UsageError

# So that a monitor can tell "the totals are too old" (1) from "nobody knows" (2).
DATABASE_AWAY = 2


class UsageCommand(BaseCommand):
    """A thin command over one service: its errors become messages and exit codes."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except UsageError as error:
            raise CommandError(str(error)) from error
        except OperationalError as error:
            raise CommandError(
                f"The database cannot be used: {str(error).strip()}. "
                "Check DATABASE_URL and that its server runs.",
                returncode=DATABASE_AWAY,
            ) from error
        except ProgrammingError as error:
            if "does not exist" not in str(error):
                raise
            raise CommandError(
                f"The database is not migrated: {str(error).splitlines()[0]}. "
                "Run: manage.py migrate",
                returncode=DATABASE_AWAY,
            ) from error
