"""The lists: the parameters, the order and the row format of each."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from usage import selectors
from usage.lists import filters, results
from usage.lists.pagination import CursorKey
from usage.lists.usage_list import Row, UsageList
from usage.models import Subscription
from usage.selectors import DailySource, Rows, Source, TotalsState

SUBSCRIPTION = CursorKey("subscription_id")
DAY = CursorKey("day", date.fromisoformat)
USAGE_TYPE = CursorKey("usage_type")
DAILY_KEYS = {
    "subscription_id": [SUBSCRIPTION, DAY, USAGE_TYPE],
    "day": [DAY, SUBSCRIPTION, USAGE_TYPE],
    "-day": [CursorKey("day", date.fromisoformat, descending=True), SUBSCRIPTION, USAGE_TYPE],
    "total_price": [CursorKey("total_price", Decimal), SUBSCRIPTION, DAY, USAGE_TYPE],
    "-total_price": [
        CursorKey("total_price", Decimal, descending=True),
        SUBSCRIPTION,
        DAY,
        USAGE_TYPE,
    ],
}


class TotalsList(UsageList):
    """A list of totals: those of the last refresh, or live ones."""

    def source(self, parameters: Mapping[str, Any], state: TotalsState) -> Source:
        live = selectors.is_answered_live(
            state=state,
            live=bool(parameters["live"]),
            max_staleness=parameters["max_staleness"],
            is_named=any(parameters[name] is not None for name in filters.NAMES),
        )
        return Source.LIVE if live else Source.DAILY

    def every_row(self, parameters: Mapping[str, Any], source: Source) -> Rows:
        daily: DailySource = selectors.refreshed_daily()
        if source is Source.LIVE:
            daily = selectors.live_daily(
                subscription_ids=parameters["subscription_id"],
                external_ids=parameters["external_id"],
                from_date=parameters["from_date"],
                to_date=parameters["to_date"],
                owner=parameters.get("owner"),
            )
        return self.summary(self.filter_class.narrowed(daily, parameters), parameters)

    @abstractmethod
    def summary(self, daily: DailySource, parameters: Mapping[str, Any]) -> Rows:
        """Return the rows of the list, made from these daily totals."""


class OverLimit(TotalsList):
    """Subscriptions whose price in the days reached a limit, the largest total first."""

    filter_class = filters.OverLimitFilter
    columns = ("subscription_id", "usage_type", "total_price", "exceeded_by")

    def source(self, parameters: Mapping[str, Any], state: TotalsState) -> Source:
        source = super().source(parameters, state)
        has_period_totals = (
            source is Source.DAILY and state.periods_filled and parameters["period"] is not None
        )
        return Source.PERIODS if has_period_totals else source

    def every_row(self, parameters: Mapping[str, Any], source: Source) -> Rows:
        if source is not Source.PERIODS:
            return super().every_row(parameters, source)
        totals = selectors.period_totals(period=parameters["period"])
        return selectors.over_limit_in_period(
            totals=self.filter_class.narrowed(
                totals, {**parameters, "from_date": None, "to_date": None}
            ),
            price_limit=parameters["price_limit"],
            is_of_one_type=parameters["usage_type"] is not None,
        )

    def summary(self, daily: DailySource, parameters: Mapping[str, Any]) -> Rows:
        return selectors.over_limit(daily=daily, price_limit=parameters["price_limit"])

    def keys(self, parameters: Mapping[str, Any]) -> Sequence[CursorKey]:
        return [CursorKey("rank", Decimal), SUBSCRIPTION]

    def result(self, row: Row, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        subscription_id, *prices, _rank = row
        return results.exceeded(subscription_id, prices, parameters["price_limit"])

    def lines(self, row: Row, parameters: Mapping[str, Any]) -> Iterator[Row]:
        subscription_id, exceeded = self.result(row, parameters).values()
        for each in exceeded:
            yield subscription_id, *each.values()


class Totals(TotalsList):
    """Totals by subscription and usage type over the days."""

    filter_class = filters.TotalsFilter
    columns = (
        "subscription_id",
        "usage_type",
        "unit",
        "total_price",
        "total_usage",
        "record_count",
        "first_day",
        "last_day",
    )

    def summary(self, daily: DailySource, parameters: Mapping[str, Any]) -> Rows:
        return selectors.type_totals(daily=daily)

    def keys(self, parameters: Mapping[str, Any]) -> Sequence[CursorKey]:
        return [SUBSCRIPTION, USAGE_TYPE]

    def result(self, row: Row, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        return results.type_total(*row)


class Daily(TotalsList):
    """Totals by subscription, day and usage type."""

    filter_class = filters.DailyFilter
    columns = (
        "subscription_id",
        "day",
        "usage_type",
        "unit",
        "total_price",
        "total_usage",
        "record_count",
        "last_usage_at",
    )
    shaped_by = frozenset({"ordering"})

    def summary(self, daily: DailySource, parameters: Mapping[str, Any]) -> Rows:
        return selectors.daily_rows(daily=daily)

    def keys(self, parameters: Mapping[str, Any]) -> Sequence[CursorKey]:
        return DAILY_KEYS[parameters["ordering"] or filters.DailyOrdering.SUBSCRIPTION_ID]

    def result(self, row: Row, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        return results.daily_total(*row)


class Records(UsageList):
    """The raw records behind one daily total, as they are now, by usage_date and id."""

    filter_class = filters.RecordFilter
    columns = ("id", "usage_date", "price", "quantity", "unit")
    shaped_by = frozenset({"usage_type"})

    def source(self, parameters: Mapping[str, Any], state: TotalsState) -> Source:
        """Return LIVE. Raises RecordsDroppedError if the records of the day are dropped."""
        selectors.refuse_dropped_day(day=parameters["day"], kept_from=state.raw_kept_from)
        return Source.LIVE

    def every_row(self, parameters: Mapping[str, Any], source: Source) -> Rows:
        return selectors.day_records(
            subscription_id=parameters["subscription_id"],
            usage_type=parameters["usage_type"],
            day=parameters["day"],
        )

    def keys(self, parameters: Mapping[str, Any]) -> Sequence[CursorKey]:
        return [CursorKey("usage_date", datetime.fromisoformat), CursorKey("id", UUID)]

    def result(self, row: Row, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        return results.record(*row, unit=parameters["usage_type"].unit)

    def days(self, parameters: Mapping[str, Any]) -> tuple[date | None, date | None]:
        return parameters["day"], parameters["day"]


class Subscriptions(UsageList):
    """The subscriptions that usage is charged to."""

    filter_class = filters.SubscriptionFilter
    columns = ("subscription_id", "external_id", "created_at")

    def every_row(self, parameters: Mapping[str, Any], source: Source) -> Rows:
        subscriptions = Subscription.objects.all()
        return selectors.subscription_rows(
            subscriptions=self.filter_class.narrowed(subscriptions, parameters)
        )

    def keys(self, parameters: Mapping[str, Any]) -> Sequence[CursorKey]:
        return [SUBSCRIPTION]

    def result(self, row: Row, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        return results.subscription(*row)


# The lists by the names that the command export_usage has for them.
LISTS: dict[str, UsageList] = {
    "over-limit": OverLimit(),
    "totals": Totals(),
    "daily": Daily(),
    "records": Records(),
    "subscriptions": Subscriptions(),
}
