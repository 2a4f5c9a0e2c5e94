from argparse import ArgumentParser
from typing import Any

from usage.management.terminal import one_line
from usage.management.usage_command import UsageCommand
from usage.services.accounts.tokens import revoke_token


class Command(UsageCommand):
    help = (
        "Revoke a token for good: its next request is refused. list_tokens shows the numbers. "
        "Example: manage.py revoke_token 7"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("token", type=int, metavar="NUMBER")

    def handle(self, *_args: Any, token: int, **_options: Any) -> None:
        revoked = revoke_token(token)
        self.stdout.write(
            f"Token {revoked.pk}, {one_line(revoked.name)}, is revoked since "
            f"{revoked.revoked_at:%Y-%m-%d %H:%M:%S} UTC."
        )
