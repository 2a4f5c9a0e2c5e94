"""The lists of the API: each authenticates, validates, asks one selector and serialises."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, ClassVar, TypeAlias
from uuid import UUID

from django.conf import settings
from django.http import StreamingHttpResponse
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from usage import selectors
from usage.api import csv, filters, results
from usage.api.authentication import state_seen
from usage.api.negotiation import format_accepted
from usage.api.pagination import DEFAULT_PAGE_SIZE, Key, Pager, next_url, paged
from usage.api.permissions import MayReadUsage
from usage.api.statements import Asked, Statement
from usage.models import Subscription
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

# Parameters that no row is chosen by.
NOT_IN_SQL = frozenset({"cursor", "page_size", "max_staleness", "live", "format"})

Row: TypeAlias = tuple[Any, ...]


class ListEndpoint(APIView):
    """One page of the answer to a query, in the envelope every list has."""

    permission_classes = [MayReadUsage]
    filterset_class: ClassVar[type[filters.QueryFilter]]
    # Parameters whose value, not only whether it is given, decides what the SQL looks like.
    shaped_by: ClassVar[frozenset[str]] = frozenset()
    # Of a CSV or another table: those of the JSON result, where that is flat.
    columns: ClassVar[tuple[str, ...]]

    def get(self, request: Request) -> Response | StreamingHttpResponse:
        query = self.filterset_class(request.query_params, format_accepted=format_accepted(request))
        asked = query.asked
        keys = self.keys(asked)
        pager = Pager(
            keys=keys,
            query=query.digest(endpoint=type(self).__name__, columns=[key.column for key in keys]),
            cursor=asked["cursor"],
            size=asked["page_size"] or DEFAULT_PAGE_SIZE,
        )
        # Read before the rows: a refresh in between makes the answer newer than it says, never
        # older.
        state = state_seen(request)
        live = self.is_live(asked, state)
        if asked["format"] == filters.CSV:
            return csv.answer(self, request, asked, state, live=live)
        statement = self.statement(asked, live=live, after=pager.cursor is not None)
        columns, found = statement.fetch({**asked, **pager.values})
        rows, cursor = pager.cut(columns, found)
        from_date, to_date = self.days(asked)
        return Response(
            {
                "as_of": state.read_at if live else state.as_of,
                "live": live,
                "time_zone": state.time_zone,
                "currency": settings.USAGE_CURRENCY,
                "from_date": from_date,
                "to_date": to_date,
                "next": next_url(request, cursor) if cursor else None,
                "results": [self.result(row, asked) for row in rows],
            }
        )

    def statement(self, asked: Mapping[str, Any], *, live: bool, after: bool) -> Statement:
        """The SQL of a page, compiled for the first of all questions that differ in values only:
        of the first page, or of one `after` a position."""
        given = tuple(
            (name, value if name in self.shaped_by else None)
            for name, value in asked.items()
            if value is not None and name not in NOT_IN_SQL
        )
        endpoint: Any = type(self)
        return _statement(endpoint, given, live, after)

    def is_live(self, asked: Mapping[str, Any], state: TotalsState) -> bool:
        """Whether the rows are read as they are now, as they always are unless totals are asked
        for. What is read now is never too old."""
        return True

    @abstractmethod
    def rows(self, asked: Mapping[str, Any], *, live: bool) -> Rows:
        """The rows that are asked for; an Asked may stand for each value not in `shaped_by`."""

    @abstractmethod
    def keys(self, asked: Mapping[str, Any]) -> Sequence[Key]:
        """The order of the rows, ending with what makes a row unique."""

    @abstractmethod
    def result(self, row: Row, asked: Mapping[str, Any]) -> dict[str, Any]:
        """One row as JSON."""

    def lines(self, row: Row, asked: Mapping[str, Any]) -> Iterator[Row]:
        """One row as those of a table, which has `columns`."""
        yield tuple(self.result(row, asked).values())

    def days(self, asked: Mapping[str, Any]) -> tuple[date | None, date | None]:
        """The first and last day asked for, both included, None where open."""
        return asked.get("from_date"), asked.get("to_date")


class TotalsEndpoint(ListEndpoint):
    """An answer from the totals of the last refresh, or from live ones."""

    def is_live(self, asked: Mapping[str, Any], state: TotalsState) -> bool:
        return selectors.is_answered_live(
            state=state,
            live=bool(asked["live"]),
            max_staleness=asked["max_staleness"],
            is_named=any(asked[name] is not None for name in filters.NAMES),
        )

    def rows(self, asked: Mapping[str, Any], *, live: bool) -> Rows:
        daily: DailySource = selectors.refreshed_daily()
        if live:
            daily = selectors.live_daily(
                subscription_ids=asked["subscription_id"],
                external_ids=asked["external_id"],
                from_date=asked["from_date"],
                to_date=asked["to_date"],
            )
        return self.summary(self.filterset_class.narrowed(daily, asked), asked)

    @abstractmethod
    def summary(self, daily: DailySource, asked: Mapping[str, Any]) -> Rows:
        """The rows that these daily totals come to."""


class OverLimit(TotalsEndpoint):
    """Subscriptions whose price in the days reached a limit, the largest total first."""

    filterset_class = filters.OverLimitFilter
    columns = ("subscription_id", "usage_type", "total_price", "exceeded_by")

    def summary(self, daily: DailySource, asked: Mapping[str, Any]) -> Rows:
        return selectors.over_limit(daily=daily, price_limit=asked["price_limit"])

    def keys(self, asked: Mapping[str, Any]) -> Sequence[Key]:
        return [Key("largest_price", Decimal, descending=True), SUBSCRIPTION]

    def result(self, row: Row, asked: Mapping[str, Any]) -> dict[str, Any]:
        subscription_id, *prices, _largest = row
        return results.exceeded(subscription_id, prices, asked["price_limit"])

    def lines(self, row: Row, asked: Mapping[str, Any]) -> Iterator[Row]:
        subscription_id, exceeded = self.result(row, asked).values()
        for each in exceeded:
            yield subscription_id, *each.values()


class Totals(TotalsEndpoint):
    """Totals by subscription and usage type over the days."""

    filterset_class = filters.TotalsFilter
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

    def summary(self, daily: DailySource, asked: Mapping[str, Any]) -> Rows:
        return selectors.type_totals(daily=daily)

    def keys(self, asked: Mapping[str, Any]) -> Sequence[Key]:
        return [SUBSCRIPTION, USAGE_TYPE]

    def result(self, row: Row, asked: Mapping[str, Any]) -> dict[str, Any]:
        return results.type_total(*row)


class Daily(TotalsEndpoint):
    """Totals by subscription, day and usage type."""

    filterset_class = filters.DailyFilter
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

    def summary(self, daily: DailySource, asked: Mapping[str, Any]) -> Rows:
        return selectors.daily_rows(daily=daily)

    def keys(self, asked: Mapping[str, Any]) -> Sequence[Key]:
        return DAILY_KEYS[asked["ordering"] or filters.DAILY_ORDERINGS[0]]

    def result(self, row: Row, asked: Mapping[str, Any]) -> dict[str, Any]:
        return results.daily_total(*row)


class Records(ListEndpoint):
    """The raw records behind one daily total, as they are now, by usage_date and id."""

    filterset_class = filters.RecordFilter
    columns = ("id", "usage_date", "price", "quantity", "unit")
    shaped_by = frozenset({"usage_type"})

    def is_live(self, asked: Mapping[str, Any], state: TotalsState) -> bool:
        """Raises RecordsDroppedError for a day whose records are dropped."""
        selectors.refuse_dropped_day(day=asked["day"], kept_from=state.raw_kept_from)
        return True

    def rows(self, asked: Mapping[str, Any], *, live: bool) -> Rows:
        return selectors.day_records(
            subscription_id=asked["subscription_id"],
            usage_type=asked["usage_type"],
            day=asked["day"],
        )

    def keys(self, asked: Mapping[str, Any]) -> Sequence[Key]:
        return [Key("usage_date", datetime.fromisoformat), Key("id", UUID)]

    def result(self, row: Row, asked: Mapping[str, Any]) -> dict[str, Any]:
        return results.record(*row, unit=asked["usage_type"].unit)

    def days(self, asked: Mapping[str, Any]) -> tuple[date | None, date | None]:
        return asked["day"], asked["day"]


class Subscriptions(ListEndpoint):
    """The subscriptions usage is charged to."""

    filterset_class = filters.SubscriptionFilter
    columns = ("subscription_id", "external_id", "created_at")

    def rows(self, asked: Mapping[str, Any], *, live: bool) -> Rows:
        everybody = Subscription.objects.all()
        return selectors.subscription_rows(
            subscriptions=self.filterset_class.narrowed(everybody, asked)
        )

    def keys(self, asked: Mapping[str, Any]) -> Sequence[Key]:
        return [SUBSCRIPTION]

    def result(self, row: Row, asked: Mapping[str, Any]) -> dict[str, Any]:
        return results.subscription(*row)


@lru_cache(maxsize=2000)
def _statement(
    endpoint: type[ListEndpoint], given: tuple[tuple[str, Any], ...], live: bool, after: bool
) -> Statement:
    """`given` has the value of what shapes the SQL, and None for what only stands in it."""
    asked = dict.fromkeys(endpoint.filterset_class.base_filters)
    asked |= {name: Asked(name) if value is None else value for name, value in given}
    rows = endpoint().rows(asked, live=live)
    return Statement.of(paged(rows, endpoint().keys(asked), after=after))
