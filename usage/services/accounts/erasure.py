"""Erasure of the name of a subscription, on request: its external_id goes, its usage stays."""

import secrets
from dataclasses import dataclass

from django.contrib.admin.models import LogEntry
from django.db import connection, transaction

from usage.errors import AmbiguousSubscriptionError, UnknownSubscriptionError
from usage.models import Subscription

# The new external_id: this prefix and so many random bytes that no two are ever equal.
FORGOTTEN = "forgotten-"
RANDOM_BYTES = 16


@dataclass(frozen=True)
class Forgotten:
    """A subscription with its new external_id."""

    subscription_id: int
    external_id: str


def find(name: str) -> Subscription:
    """Return the subscription with this external_id or, if there is none, with this id.

    Raises UnknownSubscriptionError when there is no such subscription, AmbiguousSubscriptionError
    when the name is the external_id of one and the id of another.
    """
    found = list(Subscription.objects.filter(external_id=name))
    if name.isascii() and name.isdigit() and len(name) < 19:
        found += Subscription.objects.filter(pk=int(name)).exclude(external_id=name)
    if not found:
        raise UnknownSubscriptionError(f"No subscription has the external_id or the id {name!r}.")
    if len(found) > 1:
        raise AmbiguousSubscriptionError(
            f"{name} is the external_id of subscription {found[0].pk} and the id of another one. "
            f"For the first use its id {found[0].pk}, for the second its external_id."
        )
    return found[0]


def forget_subscription(subscription: Subscription) -> Forgotten:
    """Replace the external_id by a random one for good; totals and records do not change.

    The name is also replaced in the history of the admin, and VACUUM removes the old row version
    from the table.
    """
    name = FORGOTTEN + secrets.token_hex(RANDOM_BYTES)
    with transaction.atomic():
        Subscription.objects.filter(pk=subscription.pk).update(external_id=name)
        LogEntry.objects.filter(
            content_type__app_label="usage",
            content_type__model="subscription",
            object_id=str(subscription.pk),
        ).update(object_repr=name)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM usage_subscription")
    return Forgotten(subscription.pk, name)
