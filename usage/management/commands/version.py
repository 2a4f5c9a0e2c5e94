import platform
from typing import Any

import django

from usage import __version__
from usage.management.terminal import one_line
from usage.management.usage_command import UsageCommand
from usage.monitoring.bounded import NoAnswerError, ask_database


class Command(UsageCommand):
    help = (
        "Print the version of this project, then those of Python, Django and the PostgreSQL "
        "server. Exits 0 also when the server does not respond. Example: manage.py version"
    )
    # A report of a fault needs the versions, whatever the checks find.
    requires_system_checks: list[str] = []

    def handle(self, *_args: Any, **_options: Any) -> None:
        self.stdout.write(f"Usage {__version__}")
        self.stdout.write(f"Python {platform.python_version()}")
        self.stdout.write(f"Django {django.get_version()}")
        self.stdout.write(one_line(f"PostgreSQL {_server_version()}"))


def _server_version() -> str:
    try:
        (version,) = ask_database("SELECT current_setting('server_version')")
    except NoAnswerError as error:
        return f"unknown: the database {error}. Check DATABASE_URL and that its server runs."
    return str(version)
