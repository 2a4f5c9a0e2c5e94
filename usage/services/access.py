"""Who may see and do what. Pages and the API ask here."""

from dataclasses import dataclass
from typing import Self

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

from usage.models import Scope


@dataclass(frozen=True)
class Access:
    """What a user may do: by the scopes of a token, or as a person who signed in."""

    user_id: int
    scopes: frozenset[str]

    @classmethod
    def of_person(cls, user: AbstractBaseUser | AnonymousUser) -> Self | None:
        """Staff sees and does everything, others see the subscriptions they own; nobody who has
        not signed in or has left."""
        if not (user.is_authenticated and user.is_active):
            return None
        is_staff = getattr(user, "is_staff", False)
        scopes = set(Scope) - {Scope.READ_OWN} if is_staff else {Scope.READ_OWN}
        return cls(user.pk, frozenset(scopes))

    @property
    def owner(self) -> int | None:
        """The user whose subscriptions alone may be seen, or None when every one may."""
        return None if Scope.READ in self.scopes else self.user_id
