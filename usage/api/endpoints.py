"""The lists of the API: each authenticates, validates, asks one selector and serialises."""

from abc import abstractmethod
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from usage import selectors
from usage.api import filters, results
from usage.api.pagination import DEFAULT_PAGE_SIZE, Key, Pager, next_url
from usage.api.permissions import MayReadUsage
from usage.selectors import DailySource, Rows, TotalsState

SUBSCRIPTION = Key("subscription_id")
DAY = Key("day", date.fromisoformat)
USAGE_TYPE = Key("usage_type")
DAILY_KEYS = {
    "subscription_id": [SUBSCRIPTION, DAY, USAGE_TYPE],
    "day": [DAY, SUBSCRIPTION, USAGE_TYPE],
    "-day": [Key("day", date.fromisoformat, descending=True), SUBSCRIPTION, USAGE_TYPE],
    "total_price": [Key("total_price", Decimal), SUBSCRIPTION, DAY, USAGE_TYPE],
    "-total_price": [
        Key("total_price", Decimal, descending=True),
        SUBSCRIPTION,
        DAY,
        USAGE_TYPE,
    ],
}


class ListEndpoint(APIView):
    """One page of the answer to a query, in the envelope every list has."""

    permission_classes = [MayReadUsage]
    filterset_class: ClassVar[type[filters.QueryFilter]]

    def get(self, request: Request) -> Response:
        query = self.filterset_class(request.query_params)
        keys = self.keys(query.asked)
        pager = Pager(
            keys=keys,
            query=query.digest(endpoint=type(self).__name__, columns=[key.column for key in keys]),
            cursor=query.asked["cursor"],
            size=query.asked["page_size"] or DEFAULT_PAGE_SIZE,
        )
        # Before the rows: a refresh in between makes the answer newer than it says, never older.
        state = selectors.totals_state()
        live = self.is_live(query.asked, state)
        rows, cursor = pager.page(self.rows(query, state, live=live))
        from_date, to_date = self.days(query.asked)
        return Response(
            {
                "as_of": state.read_at if live else state.as_of,
                "live": live,
                "time_zone": state.time_zone,
                "currency": settings.USAGE_CURRENCY,
                "from_date": from_date,
                "to_date": to_date,
                "next": next_url(request, cursor) if cursor else None,
                "results": [self.result(row, query.asked) for row in rows],
            }
        )

    def is_live(self, asked: dict[str, Any], state: TotalsState) -> bool:
        """Whether the rows are read as they are now, as they always are unless totals are asked
        for. What is read now is never too old."""
        return True

    @abstractmethod
    def rows(self, query: filters.QueryFilter, state: TotalsState, *, live: bool) -> Rows:
        """The rows that answer the query."""

    @abstractmethod
    def keys(self, asked: dict[str, Any]) -> Sequence[Key]:
        """The order of the rows, ending with what makes a row unique."""

    @abstractmethod
    def result(self, row: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
        """One row as JSON."""

    def days(self, asked: dict[str, Any]) -> tuple[date | None, date | None]:
        """The first and last day asked for, both included, None where open."""
        return asked.get("from_date"), asked.get("to_date")


class TotalsEndpoint(ListEndpoint):
    """An answer from the totals of the last refresh, or from live ones."""

    def is_live(self, asked: dict[str, Any], state: TotalsState) -> bool:
        return selectors.is_answered_live(
            state=state,
            live=bool(asked["live"]),
            max_staleness=asked["max_staleness"],
            is_named=any(asked[name] is not None for name in filters.NAMES),
        )

    def rows(self, query: filters.QueryFilter, state: TotalsState, *, live: bool) -> Rows:
        asked = query.asked
        daily: DailySource = selectors.refreshed_daily()
        if live:
            daily = selectors.live_daily(
                subscription_ids=asked["subscription_id"],
                external_ids=asked["external_id"],
                from_date=asked["from_date"],
                to_date=asked["to_date"],
            )
        return self.summary(query.narrowed(daily), asked)

    @abstractmethod
    def summary(self, daily: DailySource, asked: dict[str, Any]) -> Rows:
        """The rows that these daily totals come to."""


class OverLimit(TotalsEndpoint):
    """Subscriptions whose price in the days reached a limit, the largest total first."""

    filterset_class = filters.OverLimitFilter

    def summary(self, daily: DailySource, asked: dict[str, Any]) -> Rows:
        return selectors.over_limit(daily=daily, price_limit=asked["price_limit"])

    def keys(self, asked: dict[str, Any]) -> Sequence[Key]:
        return [Key("largest_price", Decimal, descending=True), SUBSCRIPTION]

    def result(self, row: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
        return results.exceeded(row, asked["price_limit"])


class Totals(TotalsEndpoint):
    """Totals by subscription and usage type over the days."""

    filterset_class = filters.TotalsFilter

    def summary(self, daily: DailySource, asked: dict[str, Any]) -> Rows:
        return selectors.type_totals(daily=daily)

    def keys(self, asked: dict[str, Any]) -> Sequence[Key]:
        return [SUBSCRIPTION, USAGE_TYPE]

    def result(self, row: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
        return results.type_total(row)


class Daily(TotalsEndpoint):
    """Totals by subscription, day and usage type."""

    filterset_class = filters.DailyFilter

    def summary(self, daily: DailySource, asked: dict[str, Any]) -> Rows:
        return selectors.daily_rows(daily=daily)

    def keys(self, asked: dict[str, Any]) -> Sequence[Key]:
        return DAILY_KEYS[asked["ordering"] or filters.DAILY_ORDERINGS[0]]

    def result(self, row: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
        return results.daily_total(row)


class Records(ListEndpoint):
    """The raw records behind one daily total, as they are now, by usage_date and id."""

    filterset_class = filters.RecordFilter

    def rows(self, query: filters.QueryFilter, state: TotalsState, *, live: bool) -> Rows:
        return selectors.day_records(
            subscription_id=query.asked["subscription_id"],
            usage_type=query.asked["usage_type"],
            day=query.asked["day"],
            kept_from=state.raw_kept_from,
        )

    def keys(self, asked: dict[str, Any]) -> Sequence[Key]:
        return [Key("usage_date", datetime.fromisoformat), Key("id", UUID)]

    def result(self, row: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
        return results.record(row, asked["usage_type"])

    def days(self, asked: dict[str, Any]) -> tuple[date | None, date | None]:
        return asked["day"], asked["day"]


class Subscriptions(ListEndpoint):
    """The subscriptions usage is charged to."""

    filterset_class = filters.SubscriptionFilter

    def rows(self, query: filters.QueryFilter, state: TotalsState, *, live: bool) -> Rows:
        return selectors.subscription_rows(subscriptions=query.qs)

    def keys(self, asked: dict[str, Any]) -> Sequence[Key]:
        return [SUBSCRIPTION]

    def result(self, row: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
        return results.subscription(row)
