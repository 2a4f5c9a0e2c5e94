"""Errors of lists whose sums are too large for a bigint."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.db import DataError

from usage.models import Subscription
from usage.services.totals import overflow

# The timeout of each statement that searches for the records whose sum is too large.
SEARCH_SECONDS = 5


@contextmanager
def large_sums_explained(parameters: Mapping[str, Any]) -> Iterator[None]:
    """Raise SumTooLargeError with the records whose sum is too large, for an overflow in SQL.

    It searches only the subscriptions and days of the query.
    """
    try:
        yield
    except DataError as error:
        conditions = {
            condition: value
            for condition, value in {
                "id__in": parameters.get("subscription_id"),
                "external_id__in": parameters.get("external_id"),
                "owner": parameters.get("owner"),
            }.items()
            if value is not None
        }
        named = overflow.explain(
            error,
            [*Subscription.objects.filter(**conditions).values_list("pk", flat=True)]
            if conditions
            else None,
            parameters.get("from_date"),
            parameters.get("to_date"),
            seconds=SEARCH_SECONDS,
        )
        if named is None:
            raise
        raise named from error
