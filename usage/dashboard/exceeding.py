"""The list of who reached a price limit, a page at a time."""

from collections.abc import Mapping
from typing import Any

from usage import selectors
from usage.models import Subscription, UsageType
from usage.selectors import Rows

LIST_SIZE = 50

Line = dict[str, Any]


def listed(
    asked: Mapping[str, Any], *, owner: int | None, periods_filled: bool
) -> tuple[list[Line], dict[str, str] | None]:
    """The lines of one page, one for each subscription and type that reached the limit, and the
    place that the next page begins behind, or None after the last."""
    after = None
    if asked["after_price"] is not None and asked["after_subscription"] is not None:
        after = (-asked["after_price"], asked["after_subscription"])
    rows = _rows(asked, owner=owner, periods_filled=periods_filled)
    found = list(selectors.over_limit_page(rows=rows, after=after, size=LIST_SIZE + 1))
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
            (row[f"{usage_type.value}_price"] for usage_type in UsageType), asked["price_limit"]
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


def _rows(asked: Mapping[str, Any], *, owner: int | None, periods_filled: bool) -> Rows:
    """From the totals of a period where the days are one, else from the daily totals."""
    first, last = asked["from_date"], asked["to_date"]
    period = selectors.whole_period(first, last)
    if period is not None and periods_filled:
        return selectors.over_limit_in_period(
            totals=_narrowed(selectors.period_totals(period=period), asked, owner),
            price_limit=asked["price_limit"],
            is_of_one_type=bool(asked["usage_type"]),
        )
    daily = selectors.refreshed_daily()
    if first and last:
        daily = daily.filter(day__gte=first, day__lte=last)
    return selectors.over_limit(
        daily=_narrowed(daily, asked, owner), price_limit=asked["price_limit"]
    )


def _narrowed(totals: Rows, asked: Mapping[str, Any], owner: int | None) -> Rows:
    if asked["usage_type"]:
        totals = totals.filter(usage_type=asked["usage_type"])
    return totals if owner is None else selectors.owned_by(rows=totals, owner=owner)
