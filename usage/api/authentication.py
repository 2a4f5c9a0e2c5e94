"""Who asks, found in the same look at the database as the state of the totals."""

from dataclasses import dataclass
from typing import Any, cast

from django.contrib.auth.models import User
from django.db import InterfaceError, OperationalError, connection
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from usage.api.statements import Asked, Statement
from usage.errors import TotalsNotFilledError
from usage.selectors import TotalsState

# statement_timestamp() is before the snapshot, so as_of is never later than what is read next.
SIGN_IN = Statement(
    """
SELECT
    auth_user.id,
    auth_user.is_active,
    usage_state.as_of,
    statement_timestamp() AS read_at,
    usage_state.time_zone,
    usage_state.raw_kept_from,
    usage_state.open_digest IS NOT NULL AS has_periods
FROM authtoken_token
INNER JOIN auth_user ON auth_user.id = authtoken_token.user_id
LEFT JOIN usage_state ON TRUE
WHERE authtoken_token.key = %s
""",
    (Asked("key"),),
    name="sign_in",
)


@dataclass(frozen=True)
class SignedIn:
    """What `request.auth` is: the state of the totals when the caller signed in."""

    seen: TotalsState

    @property
    def state(self) -> TotalsState:
        """Raises TotalsNotFilledError when there are no totals yet."""
        if self.seen.as_of is None:
            raise TotalsNotFilledError
        return self.seen


def state_seen(request: Request) -> TotalsState:
    """The state of the totals, read when the caller of this request signed in.

    Raises TotalsNotFilledError when there are no totals yet.
    """
    return cast(SignedIn, request.auth).state


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Token KEY`. A key no token can have is not looked up: the database would
    refuse a NUL character with an error."""

    def authenticate(self, request: Request) -> tuple[User, SignedIn] | None:
        """None where there is no such header; raises AuthenticationFailed for a bad one."""
        # Not by request.headers: it would read every header there is.
        scheme, *keys = request.META.get("HTTP_AUTHORIZATION", "").split() or [""]
        if scheme.lower() != "token":
            return None
        if len(keys) != 1:
            raise AuthenticationFailed("Invalid token header. Give one token without spaces.")
        [key] = keys
        found = look_up(key) if key.isascii() and key.isalnum() else None
        if found is None:
            raise AuthenticationFailed("Invalid token.")
        user_id, is_active, *seen = found
        if not is_active:
            raise AuthenticationFailed("User inactive or deleted.")
        user = User.from_db("default", ["id", "is_active"], [user_id, is_active])
        return user, SignedIn(TotalsState(*seen))

    def authenticate_header(self, request: Request) -> str:
        return "Token"


def look_up(key: str) -> tuple[Any, ...] | None:
    """The user and the state, or None when no token has this key.

    It is the first statement of a request, and so the one to find that the server has ended a
    connection that was kept: it is then tried once more, on a new one.
    """
    try:
        return _first_row(key)
    except (OperationalError, InterfaceError):
        if connection.in_atomic_block or connection.connection is None or connection.is_usable():
            raise
        connection.close()
        return _first_row(key)


def _first_row(key: str) -> tuple[Any, ...] | None:
    _, rows = SIGN_IN.fetch({"key": key})
    return rows[0] if rows else None
