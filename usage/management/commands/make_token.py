from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandError

from usage.management.terminal import one_line
from usage.management.usage_command import UsageCommand
from usage.models import Scope
from usage.services.accounts.tokens import make_token


class Command(UsageCommand):
    help = (
        "Make a token for a machine client and print its key. The key is shown only once. Example: "
        "manage.py make_token billing --new-user --name 'nightly invoices' --scope usage:read "
        "--days 365"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username", help="the user that the token belongs to")
        parser.add_argument(
            "--name", required=True, help="the purpose of the token, at most 100 characters"
        )
        parser.add_argument(
            "--scope",
            dest="scopes",
            action="append",
            required=True,
            choices=Scope.values,
            help="a right of the token; repeat the option for more rights",
        )
        parser.add_argument(
            "--days", type=int, metavar="N", help="the token expires after N days; default never"
        )
        parser.add_argument(
            "--new-user",
            action="store_true",
            help="make the user, without a password, so that it can't sign in",
        )

    def handle(
        self,
        *_args: Any,
        username: str,
        name: str,
        scopes: list[str],
        days: int | None,
        new_user: bool,
        **_options: Any,
    ) -> None:
        if not 1 <= len(name) <= 100:
            raise CommandError("--name must have 1 to 100 characters.")
        if days is not None and not 1 <= days <= 36_500:
            raise CommandError("--days must be from 1 to 36500.")
        found = User.objects.filter(username=username)
        if new_user and found.exists():
            raise CommandError(f"There is a user {username!r} already. Leave out --new-user.")
        if not new_user and not found.exists():
            raise CommandError(f"There is no user {username!r}. Add --new-user to make one.")
        token, key = make_token(
            user=User.objects.create_user(username) if new_user else found.get(),
            name=name,
            scopes=[Scope(scope) for scope in scopes],
            lifetime=None if days is None else timedelta(days=days),
        )
        until = f"until {token.expires_at:%Y-%m-%d %H:%M} UTC" if token.expires_at else "for ever"
        # A script reads the key from standard output, so messages go to standard error.
        self.stderr.write(
            f"Token {token.pk} of {one_line(username)}, {until}. Its key is not shown again:",
            style_func=self.style.NOTICE,
        )
        self.stdout.write(key)
