"""Who may ask."""

from typing import Any

from rest_framework.authentication import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import IsAuthenticated


class KeyAuthentication(TokenAuthentication):
    """`Authorization: Token KEY`. A key no token can have is not looked up: the database would
    refuse a NUL character with an error."""

    def authenticate_credentials(self, key: str) -> tuple[Any, Any]:
        if not (key.isascii() and key.isalnum()):
            raise AuthenticationFailed("Invalid token.")
        return super().authenticate_credentials(key)


class MayReadUsage(IsAuthenticated):
    """May read every subscription: anyone who signed in."""
