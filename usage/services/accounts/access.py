"""Permissions of users and tokens, for pages and the API."""

from dataclasses import dataclass
from typing import Self

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

from usage.models import Scope


@dataclass(frozen=True)
class Access:
    """The permissions of a user, by the scopes of a token or by a sign-in with a password."""

    user_id: int
    scopes: frozenset[str]

    @classmethod
    def of_person(cls, user: AbstractBaseUser | AnonymousUser) -> Self | None:
        """Return the access of a signed-in user; None if not signed in or deactivated.

        Staff users may see and do everything, others may see the subscriptions that they own.
        """
        if not (user.is_authenticated and user.is_active):
            return None
        is_staff = getattr(user, "is_staff", False)
        scopes = set(Scope) - {Scope.READ_OWN} if is_staff else {Scope.READ_OWN}
        return cls(user.pk, frozenset(scopes))

    @property
    def owner(self) -> int | None:
        """The user to whose subscriptions the access is limited; None without such a limit."""
        return None if Scope.READ in self.scopes else self.user_id
