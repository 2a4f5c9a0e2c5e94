from typing import Any

from django.utils import timezone

from usage.management.terminal import one_line
from usage.management.usage_command import UsageCommand
from usage.models import AccessToken


class Command(UsageCommand):
    help = (
        "List all tokens with user, scopes, expiry and last use. It never shows a key. "
        "Example: manage.py list_tokens"
    )

    def handle(self, *_args: Any, **_options: Any) -> None:
        tokens = AccessToken.objects.select_related("user").order_by("pk")
        for token in tokens:
            used = f"{token.last_used_at:%Y-%m-%d %H:%M} UTC" if token.last_used_at else "never"
            line = (
                f"{token.pk}  {token.name} ({token.user.get_username()})  "
                f"{' '.join(token.scopes)}  {_end(token)}  last used {used}"
            )
            self.stdout.write(one_line(line))
        if not tokens:
            self.stdout.write("There are no tokens. Make one with: manage.py make_token")


def _end(token: AccessToken) -> str:
    if token.revoked_at:
        return f"revoked {token.revoked_at:%Y-%m-%d %H:%M} UTC"
    if token.expires_at is None:
        return "does not expire"
    tense = "expired" if token.expires_at <= timezone.now() else "expires"
    return f"{tense} {token.expires_at:%Y-%m-%d %H:%M} UTC"
