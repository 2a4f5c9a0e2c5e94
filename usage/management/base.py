"""What every command of ours does with errors: say what to do next, without a traceback."""

from argparse import ArgumentTypeError
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError

from usage.errors import UsageError
from usage.services.advice import advice_on
from usage.services.locks import is_of_server

# So that a monitor can tell "the totals are too old" (1) from "nobody knows" (2).
DATABASE_AWAY = 2


def day(text: str) -> date:
    """An option that takes a day such as 2026-11-15."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a day such as 2026-11-15") from error


class UsageCommand(BaseCommand):
    """A thin command over one service: its errors become messages and exit codes."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except UsageError as error:
            raise CommandError(str(error)) from error
        except (DatabaseError, InterfaceError) as error:
            if (advice := advice_on(error)) is not None:
                raise CommandError(f"{advice}.", returncode=DATABASE_AWAY) from error
            if not is_of_server(error):
                raise
            raise CommandError(
                f"The database cannot be used: {str(error).strip()}. "
                "Check DATABASE_URL and that its server runs.",
                returncode=DATABASE_AWAY,
            ) from error
