"""Authentication: one statement reads the caller and the state of the totals.

It runs on the primary, or on a replica while the primary is unreachable. A replica may lack the
latest changes, so there a token that was just revoked may still be valid.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from django.contrib.auth.models import User
from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from usage.authorization import credentials
from usage.database import routing
from usage.errors import TotalsNotFilledError
from usage.lists.statements import RequestValue, Statement
from usage.models.tokens import digest_of
from usage.selectors import VERSION, TotalsState
from usage.services.accounts.access import Access
from usage.services.accounts.tokens import note_use

LONGEST_KEY = 100
SCHEMES = {"bearer", "token"}

# as_of of live rows is statement_timestamp() here. The rows are read after this statement, so their
# snapshot is never earlier than as_of.
STATE = f"""
    usage_state.as_of,
    statement_timestamp() AS read_at,
    usage_state.time_zone,
    usage_state.raw_kept_from,
    usage_state.open_digest IS NOT NULL AS periods_filled,
    {VERSION} AS version
"""

SIGN_IN = Statement(
    f"""
SELECT
    usage_accesstoken.id,
    usage_accesstoken.scopes,
    usage_accesstoken.revoked_at IS NOT NULL AS is_revoked,
    coalesce(usage_accesstoken.expires_at <= statement_timestamp(), FALSE) AS has_expired,
    coalesce(
        usage_accesstoken.last_used_at < statement_timestamp() - INTERVAL '1 minute', TRUE
    ) AS is_use_to_note,
    auth_user.id,
    auth_user.is_active,
{STATE}
FROM usage_accesstoken
INNER JOIN auth_user ON auth_user.id = usage_accesstoken.user_id
LEFT JOIN usage_state ON TRUE
WHERE usage_accesstoken.digest = %s
""",  # noqa: S608 - constants
    (RequestValue("digest"),),
    name="sign_in",
)

READ_STATE = Statement(f"SELECT {STATE} FROM usage_state", ())  # noqa: S608


@dataclass(frozen=True)
class SignedIn:
    """The value of `request.auth`: the access of the caller, and the state of the totals that the
    named server had at sign-in."""

    access: Access
    seen: TotalsState | None
    server: str

    @property
    def state(self) -> TotalsState:
        """Return the state of the totals. Raises TotalsNotFilledError if they were never filled."""
        if self.seen is None or self.seen.as_of is None:
            raise TotalsNotFilledError
        return self.seen


def signed_in(request: Request) -> SignedIn:
    """Return the caller of this request, who has signed in."""
    return cast(SignedIn, request.auth)


def state_here() -> TotalsState | None:
    """Return the state of the totals on the current server."""
    row = _first_row(READ_STATE, {})
    return TotalsState(*row) if row else None


def sent_key(request: HttpRequest) -> str | None:
    """Return the key in `Authorization: Bearer KEY` or `Token KEY`; None without such a key."""
    scheme, words = credentials(request)
    return words[0] if scheme in SCHEMES and len(words) == 1 else None


class KeyAuthentication(BaseAuthentication):
    """Authentication by `Authorization: Bearer KEY`, or `Token KEY`."""

    def authenticate(self, request: Request) -> tuple[User, SignedIn] | None:
        """Return the user and the sign-in; None without such a header.

        Raises AuthenticationFailed for an invalid one.
        """
        key = sent_key(request._request)
        if key is None:
            _refuse_incomplete(*credentials(request._request))
            return None
        if len(key) > LONGEST_KEY:
            raise AuthenticationFailed("Invalid token.")

        def sign_in() -> tuple[str, tuple[Any, ...] | None]:
            return routing.current(), _first_row(SIGN_IN, {"digest": digest_of(key)})

        server, found = routing.read(sign_in, first=routing.PRIMARY)
        if found is None:
            raise AuthenticationFailed("Invalid token.")
        token_id, scopes, is_revoked, has_expired, is_use_to_note, user_id, is_active, *seen = found
        if is_revoked:
            raise AuthenticationFailed("The token was revoked.")
        if has_expired:
            raise AuthenticationFailed("The token has expired.")
        if not is_active:
            raise AuthenticationFailed("User inactive or deleted.")
        if is_use_to_note and server == routing.PRIMARY:
            note_use(token_id)
        user = User.from_db("default", ["id", "is_active"], [user_id, is_active])
        return user, SignedIn(Access(user_id, frozenset(scopes)), TotalsState(*seen), server)

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class PersonAuthentication(SessionAuthentication):
    """Authentication by the session of a person who signed in at /login/. A request that changes
    something needs the CSRF token of the session."""

    def authenticate(self, request: Request) -> tuple[User, SignedIn] | None:
        found = super().authenticate(request)
        if found is None:
            return None
        user = cast(User, found[0])
        seen = routing.with_reconnect(state_here)
        access = Access.of_person(user)
        assert access is not None  # noqa: S101 - the person has signed in and is active
        return user, SignedIn(access, seen, routing.current())


def _refuse_incomplete(scheme: str, words: list[str]) -> None:
    """Raise AuthenticationFailed for a header that lacks its scheme or its key."""
    if scheme in SCHEMES:
        fault = "more than one key" if words else "a scheme and no key"
    elif scheme and not words:
        fault = "one word and no scheme"
    else:
        return
    raise AuthenticationFailed(
        f"The header Authorization has {fault}. Send `Authorization: Bearer KEY`."
    )


def _first_row(statement: Statement, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Return the first row; None if there is none."""
    _, rows = statement.fetch(values)
    return rows[0] if rows else None
