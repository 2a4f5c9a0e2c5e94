"""Permissions of endpoints. An endpoint that names none refuses every request."""

from typing import Any, ClassVar

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from usage.api.authentication import SignedIn
from usage.models import Scope


class NobodyMay(BasePermission):
    """The default permission, for an endpoint that names none by mistake."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return False


class NeedsScope(BasePermission):
    """A permission by scope: the caller needs one of `scopes`.

    For a request that changes something, the caller needs one of `to_change` instead, if the
    endpoint has it.
    """

    scopes: ClassVar[tuple[Scope, ...]]
    to_change: ClassVar[tuple[Scope, ...]] = ()

    def needed(self, method: str | None) -> tuple[Scope, ...]:
        """Return the scopes of which the caller needs one."""
        changes = self.to_change and method not in SAFE_METHODS
        return self.to_change if changes else self.scopes

    def has_permission(self, request: Request, view: Any) -> bool:
        needed = self.needed(request.method)
        # DRF sends this message to a caller who has signed in; all others get a 401.
        self.message = f"This needs the scope {' or '.join(needed)}."
        return isinstance(request.auth, SignedIn) and not request.auth.access.scopes.isdisjoint(
            needed
        )


class MayReadUsage(NeedsScope):
    """Permission to read the usage of every subscription, or of those that the user owns."""

    scopes = (Scope.READ, Scope.READ_OWN)


class MayReadOrRunRefreshes(NeedsScope):
    """Permission to read the history of refreshes and, by another scope, to request a refresh."""

    scopes = (Scope.REFRESH_READ,)
    to_change = (Scope.REFRESH_RUN,)
