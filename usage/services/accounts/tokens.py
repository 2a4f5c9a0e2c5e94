"""Access tokens: make and revoke them, and store when they were used."""

import logging
import secrets
from collections.abc import Collection
from datetime import timedelta

from django.contrib.auth.models import User
from django.db import DatabaseError, connection
from django.db.models import F
from django.db.models.functions import Coalesce, Now

from usage.errors import TokenError
from usage.models import AccessToken, Scope
from usage.models.tokens import digest_of

# A fixed prefix, so that a search through files and messages finds leaked keys.
KEY_PREFIX = "usage_"

logger = logging.getLogger(__name__)


def make_token(
    *, user: User, name: str, scopes: Collection[Scope], lifetime: timedelta | None = None
) -> tuple[AccessToken, str]:
    """Make a token and return it with its key, which is not stored and cannot be read later.

    Raises TokenError for scopes that exclude each other.
    """
    refuse_scopes_that_contradict(scopes)
    key = KEY_PREFIX + secrets.token_hex(32)
    token = AccessToken.objects.create(
        digest=digest_of(key),
        name=name,
        user=user,
        scopes=[scope for scope in Scope.values if scope in scopes],
        expires_at=None if lifetime is None else Now() + lifetime,
    )
    token.refresh_from_db()
    return token, key


def refuse_scopes_that_contradict(scopes: Collection[str]) -> None:
    """Raise TokenError for scopes that exclude each other, or for no scope."""
    if not scopes:
        raise TokenError(f"A token needs a scope: {', '.join(Scope.values)}.")
    if {Scope.READ, Scope.READ_OWN} <= set(scopes):
        raise TokenError(f"Give {Scope.READ} or {Scope.READ_OWN}, not both.")


def revoke_token(token_id: int) -> AccessToken:
    """Revoke a token and return it. A token that was revoked before keeps its time.

    Raises TokenError if no token has this id.
    """
    found = AccessToken.objects.filter(pk=token_id)
    if not found.update(revoked_at=Coalesce(F("revoked_at"), Now())):
        raise TokenError(f"There is no token {token_id}. See them with: manage.py list_tokens")
    return found.get()


def note_use(token_id: int) -> None:
    """Store that the token was used now. Never raises, and never waits for a concurrent call."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE usage_accesstoken SET last_used_at = statement_timestamp() WHERE id ="
                " (SELECT id FROM usage_accesstoken WHERE id = %s FOR UPDATE SKIP LOCKED)",
                [token_id],
            )
    except DatabaseError as error:
        logger.warning("The use of token %s could not be stored: %s", token_id, str(error).strip())
