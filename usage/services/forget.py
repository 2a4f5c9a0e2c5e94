"""Forgetting who a subscription was, on request: its name elsewhere goes, its usage stays."""

import secrets
from dataclasses import dataclass

from django.contrib.admin.models import LogEntry
from django.db import connection, transaction

from usage.errors import AmbiguousSubscriptionError, UnknownSubscriptionError
from usage.models import Subscription

# What remains of a name: enough chance that no two are ever alike.
FORGOTTEN = "forgotten-"
RANDOM_BYTES = 16


@dataclass(frozen=True)
class Forgotten:
    """A subscription, and the name that it has from now on."""

    subscription_id: int
    external_id: str


def find(name: str) -> Subscription:
    """The subscription with this external_id or, failing that, with this id.

    Raises UnknownSubscriptionError, and AmbiguousSubscriptionError when one has it as its
    external_id and another one as its id.
    """
    found = list(Subscription.objects.filter(external_id=name))
    if name.isascii() and name.isdigit() and len(name) < 19:
        found += Subscription.objects.filter(pk=int(name)).exclude(external_id=name)
    if not found:
        raise UnknownSubscriptionError(f"No subscription has the external_id or the id {name!r}.")
    if len(found) > 1:
        raise AmbiguousSubscriptionError(
            f"{name} is the external_id of subscription {found[0].pk} and the id of another one. "
            f"Name the first by its id {found[0].pk}, the second by its external_id."
        )
    return found[0]


def forget_subscription(subscription: Subscription) -> Forgotten:
    """Replace the external_id by a random one for good; totals and records stay as they are.

    The rows of the admin's history that show the name are changed with it, and the old version of
    the row leaves the table.
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
