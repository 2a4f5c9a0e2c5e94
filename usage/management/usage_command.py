"""The base class of our commands: it turns errors into messages, without a traceback."""

import os
import sys
from argparse import ArgumentTypeError
from datetime import date
from typing import Any, TextIO

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError, ProgrammingError

from usage.database import explanations
from usage.database.errors import is_server_error
from usage.errors import UsageError
from usage.management.terminal import SafeOutput
from usage.models import UsageState

# A monitor must distinguish totals that are too old (1) from an unknown age (2).
DATABASE_AWAY = 2
# The exit code of a process that SIGPIPE ended.
BROKEN_PIPE = 141


def day(text: str) -> date:
    """Parse an option that is a day such as 2026-11-15."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a day such as 2026-11-15") from error


class UsageCommand(BaseCommand):
    """A command that calls one service. Errors become messages and exit codes, and control
    characters in the output become escapes."""

    def __init__(
        self,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        no_color: bool = False,
        force_color: bool = False,
    ) -> None:
        super().__init__(stdout, stderr, no_color, force_color)
        self.stdout = SafeOutput(stdout or sys.stdout)
        style = self.stderr.style_func
        self.stderr = SafeOutput(stderr or sys.stderr)
        self.stderr.style_func = style

    def execute(self, *args: Any, **options: Any) -> str | None:
        # Django would wrap these in its own output.
        for name in ("stdout", "stderr"):
            if stream := options.pop(name, None):
                setattr(self, name, SafeOutput(stream))
        try:
            return super().execute(*args, **options)
        except BrokenPipeError:
            # A reader such as head closed the pipe. Python flushes again at exit, which must
            # not fail.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(BROKEN_PIPE)
        except UsageState.DoesNotExist as error:
            raise CommandError(
                "usage_state has no row, probably after a restore without it. Restore it: "
                "pg_restore --data-only --table=usage_state",
                returncode=DATABASE_AWAY,
            ) from error
        except UsageError as error:
            raise CommandError(str(error)) from error
        except (DatabaseError, InterfaceError) as error:
            if (cause := explanations.explain(error)) is not None:
                raise CommandError(cause) from error
            if isinstance(error, ProgrammingError) and "does not exist" in str(error):
                raise CommandError(
                    f"The database is not migrated: {str(error).splitlines()[0]}. "
                    "Run: manage.py migrate",
                    returncode=DATABASE_AWAY,
                ) from error
            if not is_server_error(error):
                raise
            raise CommandError(
                f"The database cannot be used: {str(error).strip()}. "
                "Check DATABASE_URL and that its server runs.",
                returncode=DATABASE_AWAY,
            ) from error
