"""The list of subscriptions that reached a price limit, a page at a time."""

from collections.abc import Mapping
from typing import Any

from usage import selectors
from usage.lists.all_lists import OverLimit
from usage.lists.pagination import paged
from usage.models import Subscription, UsageType
from usage.selectors import Rows, TotalsState

LIST = OverLimit()
LIST_SIZE = 50

Line = dict[str, Any]


def page_of_lines(
    query: Mapping[str, Any], *, owner: int | None, state: TotalsState
) -> tuple[list[Line], dict[str, str] | None]:
    """Return the lines of one page, and the query parameters of the next page, or None.

    A line is a subscription and a type that reached the limit.
    """
    found = list(_rows(query, owner=owner, state=state)[: LIST_SIZE + 1])
    shown = found[:LIST_SIZE]
    ids = [row["subscription_id"] for row in shown]
    names = dict(Subscription.objects.filter(id__in=ids).values_list("id", "external_id"))
    lines = [
        {
            "external_id": names.get(row["subscription_id"]),
            "subscription_id": row["subscription_id"],
            "type": usage_type.label,
            "price": price,
            "exceeded_by": exceeded_by,
        }
        for row in shown
        for usage_type, price, exceeded_by in selectors.exceeded(
            (row[f"{usage_type.value}_price"] for usage_type in UsageType), query["price_limit"]
        )
    ]
    if len(found) <= LIST_SIZE:
        return lines, None
    last = shown[-1]
    place = {
        "after_price": format(-last["rank"], "f"),
        "after_subscription": str(last["subscription_id"]),
    }
    return lines, place


def _rows(query: Mapping[str, Any], *, owner: int | None, state: TotalsState) -> Rows:
    """Return the rows of the same list as in the API, from this page on."""
    first, last = query["from_date"], query["to_date"]
    parameters = dict.fromkeys(LIST.filter_class.base_filters) | {
        "from_date": first,
        "to_date": last,
        "period": selectors.whole_period(first, last),
        "usage_type": query["usage_type"] or None,
        "price_limit": query["price_limit"],
        "owner": owner,
    }
    after = None
    if query["after_price"] is not None and query["after_subscription"] is not None:
        after = (-query["after_price"], query["after_subscription"])
    rows = LIST.rows(parameters, LIST.source(parameters, state))
    return paged(rows, LIST.keys(parameters), after=after)
