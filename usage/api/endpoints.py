"""The lists of the API: the parameters, the order and the row format of each."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from usage import selectors
from usage.api import filters, results, shapes
from usage.api.lists import ListEndpoint, Row
from usage.api.pagination import CursorKey
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


class TotalsEndpoint(ListEndpoint):
    """A list of totals: those of the last refresh, or live ones."""

    def source(self, parameters: Mapping[str, Any], state: TotalsState) -> Source:
        live = selectors.is_answered_live(
            state=state,
            live=bool(parameters["live"]),
            max_staleness=parameters["max_staleness"],
            is_named=any(parameters[name] is not None for name in filters.NAMES),
        )
        return Source.LIVE if live else Source.DAILY

    def rows(self, parameters: Mapping[str, Any], source: Source) -> Rows:
        daily: DailySource = selectors.refreshed_daily()
        if source is Source.LIVE:
            daily = selectors.live_daily(
                subscription_ids=parameters["subscription_id"],
                external_ids=parameters["external_id"],
                from_date=parameters["from_date"],
                to_date=parameters["to_date"],
                owner=parameters.get("owner"),
            )
        return self.summary(self.filterset_class.narrowed(daily, parameters), parameters)

    @abstractmethod
    def summary(self, daily: DailySource, parameters: Mapping[str, Any]) -> Rows:
        """Return the rows of the list, made from these daily totals."""


class OverLimit(TotalsEndpoint):
    """Subscriptions whose price in the days reached a limit, the largest total first."""

    filterset_class = filters.OverLimitFilter
    shape = shapes.OverLimitPage
    columns = ("subscription_id", "usage_type", "total_price", "exceeded_by")

    def source(self, parameters: Mapping[str, Any], state: TotalsState) -> Source:
        source = super().source(parameters, state)
        has_period_totals = (
            source is Source.DAILY and state.periods_filled and parameters["period"] is not None
        )
        return Source.PERIODS if has_period_totals else source

    def rows(self, parameters: Mapping[str, Any], source: Source) -> Rows:
        if source is not Source.PERIODS:
            return super().rows(parameters, source)
        totals = selectors.period_totals(period=parameters["period"])
        return selectors.over_limit_in_period(
            totals=self.filterset_class.narrowed(
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


class Totals(TotalsEndpoint):
    """Totals by subscription and usage type over the days."""

    filterset_class = filters.TotalsFilter
    shape = shapes.TotalsPage
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


class Daily(TotalsEndpoint):
    """Totals by subscription, day and usage type."""

    filterset_class = filters.DailyFilter
    shape = shapes.DailyPage
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


class Records(ListEndpoint):
    """The raw records behind one daily total, as they are now, by usage_date and id."""

    filterset_class = filters.RecordFilter
    shape = shapes.UsageRecordsPage
    columns = ("id", "usage_date", "price", "quantity", "unit")
    shaped_by = frozenset({"usage_type"})

    def source(self, parameters: Mapping[str, Any], state: TotalsState) -> Source:
        """Return LIVE. Raises RecordsDroppedError if the records of the day are dropped."""
        selectors.refuse_dropped_day(day=parameters["day"], kept_from=state.raw_kept_from)
        return Source.LIVE

    def rows(self, parameters: Mapping[str, Any], source: Source) -> Rows:
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


class Subscriptions(ListEndpoint):
    """The subscriptions that usage is charged to."""

    filterset_class = filters.SubscriptionFilter
    shape = shapes.SubscriptionsPage
    columns = ("subscription_id", "external_id", "created_at")

    def rows(self, parameters: Mapping[str, Any], source: Source) -> Rows:
        subscriptions = Subscription.objects.all()
        return selectors.subscription_rows(
            subscriptions=self.filterset_class.narrowed(subscriptions, parameters)
        )

    def keys(self, parameters: Mapping[str, Any]) -> Sequence[CursorKey]:
        return [SUBSCRIPTION]

    def result(self, row: Row, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        return results.subscription(*row)
