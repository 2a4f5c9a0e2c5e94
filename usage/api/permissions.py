"""Who may ask what. An endpoint that names none of these answers nobody."""

from typing import Any, ClassVar

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from usage.api.authentication import SignedIn
from usage.models import Scope


class NobodyMay(BasePermission):
    """Of an endpoint that forgot to say who may."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return False


class NeedsScope(BasePermission):
    """Any of `scopes` is enough to ask; where something can be changed, `to_change` is needed."""

    scopes: ClassVar[tuple[Scope, ...]]
    to_change: ClassVar[tuple[Scope, ...]] = ()

    def needed(self, method: str | None) -> tuple[Scope, ...]:
        """The scopes of which one is needed."""
        changes = self.to_change and method not in SAFE_METHODS
        return self.to_change if changes else self.scopes

    def has_permission(self, request: Request, view: Any) -> bool:
        needed = self.needed(request.method)
        # DRF tells it to a caller who is signed in; others are told to sign in.
        self.message = f"This needs the scope {' or '.join(needed)}."
        return isinstance(request.auth, SignedIn) and not request.auth.access.scopes.isdisjoint(
            needed
        )


class MayReadUsage(NeedsScope):
    """May read the usage of every subscription, or of those of the user."""

    scopes = (Scope.READ, Scope.READ_OWN)


class MayReadOrRunRefreshes(NeedsScope):
    """May read the history of refreshes; another scope lets ask for one."""

    scopes = (Scope.REFRESH_READ,)
    to_change = (Scope.REFRESH_RUN,)
