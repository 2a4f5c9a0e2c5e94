"""What every list of the API does: it signs in, validates, asks one statement and answers."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from functools import lru_cache
from typing import Any, ClassVar, TypeAlias

from django.conf import settings
from django.db import DataError
from django.http.response import HttpResponseBase
from rest_framework.request import Request

from usage import selectors
from usage.api import csv_responses, filters, responses
from usage.api.authentication import signed_in, state_here
from usage.api.endpoint import Endpoint
from usage.api.negotiation import format_accepted
from usage.api.pagination import DEFAULT_PAGE_SIZE, CursorKey, Pager, next_url, paged
from usage.api.permissions import MayReadUsage
from usage.api.statements import Asked, Statement
from usage.errors import StaleTotalsError
from usage.models import Subscription
from usage.selectors import Rows, Source, TotalsState
from usage.services import overflow, servers
from usage.services.notation import moment_text

# Of each statement that looks for what a live answer can't add up.
SEARCH_SECONDS = 5

# Parameters that no row is chosen by.
NOT_IN_SQL = frozenset({"cursor", "page_size", "max_staleness", "live", "format"})

Row: TypeAlias = tuple[Any, ...]


class ListEndpoint(Endpoint):
    """One page of the answer to a query, in the envelope every list has."""

    permission_classes = [MayReadUsage]
    filterset_class: ClassVar[type[filters.QueryFilter]]
    # The same without pages.
    file_filterset_class: ClassVar[type[filters.QueryFilter]]
    # Whether every row is the answer, as CSV: by the path that ends with .csv.
    is_file: bool = False
    # The TypedDict of a page.
    shape: ClassVar[type]
    # Parameters whose value, not only whether it is given, decides what the SQL looks like.
    shaped_by: ClassVar[frozenset[str]] = frozenset()
    # Of a CSV or another table: those of the JSON result, where that is flat.
    columns: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "filterset_class" in vars(cls):
            cls.file_filterset_class = filters.of_every_row(cls.filterset_class)

    def get(self, request: Request) -> HttpResponseBase:
        caller = signed_in(request)
        query = self.question_class(
            request.query_params,
            format_accepted=filters.CSV if self.is_file else format_accepted(request),
            owner=caller.access.owner,
        )
        asked = query.asked
        keys = self.keys(asked)
        pager = Pager(
            keys=keys,
            query=query.digest(endpoint=type(self).__name__, columns=[key.column for key in keys]),
            cursor=asked.get("cursor"),
            size=asked.get("page_size") or DEFAULT_PAGE_SIZE,
        )
        # Read before the rows, on the server that they are read from: a refresh in between makes
        # the answer newer than it says, never older.
        state = caller.state
        source = self.source(asked, state)
        if source is Source.LIVE:
            with servers.at(servers.PRIMARY), _large_sums_named(asked):
                return self.answer(request, asked, pager, state, source)
        # Who has what the server of the sign-in would answer needs no replica, which may be older.
        tag = self.tag(request, asked, pager, state)
        if tag is not None and responses.is_known(request, tag):
            return responses.not_modified(tag)

        def answer_here() -> HttpResponseBase:
            if servers.current() == caller.server:
                return self.answer(request, asked, pager, state, source, tag)
            state_of_it, source_of_it = self.seen_here(asked)
            tag_of_it = self.tag(request, asked, pager, state_of_it)
            if tag_of_it is not None and responses.is_known(request, tag_of_it):
                return responses.not_modified(tag_of_it)
            return self.answer(request, asked, pager, state_of_it, source_of_it, tag_of_it)

        is_at_replica = caller.server != servers.PRIMARY
        return servers.read(answer_here, first=caller.server if is_at_replica else None)

    @property
    def question_class(self) -> type[filters.QueryFilter]:
        """The parameters of this path."""
        return self.file_filterset_class if self.is_file else self.filterset_class

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """The path of a file says what the answer is written in, so every header is good."""
        return super().perform_content_negotiation(request, force=force or self.is_file)

    def seen_here(self, asked: Mapping[str, Any]) -> tuple[TotalsState, Source]:
        """The state of the totals on the current server and what the rows are read from there.

        Raises NotHereError when its totals are too old for the question.
        """
        state = state_here()
        if state is None or state.as_of is None:
            raise servers.NotHereError
        try:
            source = self.source(asked, state)
        except StaleTotalsError as error:
            raise servers.NotHereError from error
        if source is Source.LIVE:
            raise servers.NotHereError
        return state, source

    def tag(
        self, request: Request, asked: Mapping[str, Any], pager: Pager, state: TotalsState
    ) -> str | None:
        """The tag of the answer from these totals, or None for one that may change without them:
        who has an external id, and what a user owns, may do so at any time."""
        if asked.get("external_id") is not None or asked["owner"] is not None:
            return None
        # Whatever changes totals writes the state anew, on each server in the same transaction.
        return responses.tag_of(
            request.user.pk,
            (pager.query, pager.size, pager.cursor, asked["format"]),
            (state.as_of, state.version, settings.USAGE_CURRENCY),
        )

    def answer(
        self,
        request: Request,
        asked: Mapping[str, Any],
        pager: Pager,
        state: TotalsState,
        source: Source,
        tag: str | None = None,
    ) -> HttpResponseBase:
        """The rows of the current server, whose totals are in this state."""
        response: HttpResponseBase
        if asked["format"] == filters.CSV:
            response = csv_responses.answer(self, request, asked, state, source)
        else:
            response = responses.page(self.page(request, asked, pager, state, source))
        if tag is not None:
            response["ETag"] = tag
        return response

    def page(
        self,
        request: Request,
        asked: Mapping[str, Any],
        pager: Pager,
        state: TotalsState,
        source: Source,
    ) -> Mapping[str, Any]:
        """The envelope with the rows of one page."""
        statement = self.statement(asked, source, after=pager.cursor is not None)
        columns, found = statement.fetch({**asked, **pager.values})
        rows, cursor = pager.cut(columns, found)
        from_date, to_date = self.days(asked)
        return {
            "as_of": moment_text(state.moment_of(source)),
            "live": source is Source.LIVE,
            "time_zone": state.time_zone,
            "currency": settings.USAGE_CURRENCY,
            "from_date": from_date,
            "to_date": to_date,
            "next": next_url(request, cursor) if cursor else None,
            "results": [self.result(row, asked) for row in rows],
        }

    def statement(self, asked: Mapping[str, Any], source: Source, *, after: bool) -> Statement:
        """The SQL of a page, compiled for the first of all questions that differ in values only:
        of the first page, or of one `after` a position."""
        given = tuple(
            (name, value if name in self.shaped_by else None)
            for name, value in asked.items()
            if value is not None and name not in NOT_IN_SQL
        )
        endpoint: Any = type(self)
        return _statement(endpoint, given, source, after)

    def source(self, asked: Mapping[str, Any], state: TotalsState) -> Source:
        """What the rows are read from: as they are now, unless totals are asked for. What is read
        now is never too old."""
        return Source.LIVE

    @abstractmethod
    def rows(self, asked: Mapping[str, Any], source: Source) -> Rows:
        """The rows that are asked for; an Asked may stand for each value not in `shaped_by`."""

    @abstractmethod
    def keys(self, asked: Mapping[str, Any]) -> Sequence[CursorKey]:
        """The order of the rows, ending with what makes a row unique."""

    @abstractmethod
    def result(self, row: Row, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """One row as JSON, in this shape."""

    def lines(self, row: Row, asked: Mapping[str, Any]) -> Iterator[Row]:
        """One row as those of a table, which has `columns`."""
        yield tuple(self.result(row, asked).values())

    def days(self, asked: Mapping[str, Any]) -> tuple[date | None, date | None]:
        """The first and last day asked for, both included, None where open."""
        return asked.get("from_date"), asked.get("to_date")


@contextmanager
def _large_sums_named(asked: Mapping[str, Any]) -> Iterator[None]:
    """Names what can't be added up, among the subscriptions and days asked for alone."""
    try:
        yield
    except DataError as error:
        conditions = {
            condition: value
            for condition, value in {
                "id__in": asked.get("subscription_id"),
                "external_id__in": asked.get("external_id"),
                "owner": asked.get("owner"),
            }.items()
            if value is not None
        }
        named = overflow.explain(
            error,
            [*Subscription.objects.filter(**conditions).values_list("pk", flat=True)]
            if conditions
            else None,
            asked.get("from_date"),
            asked.get("to_date"),
            seconds=SEARCH_SECONDS,
        )
        if named is None:
            raise
        raise named from error


@lru_cache(maxsize=2000)
def _statement(
    endpoint: type[ListEndpoint], given: tuple[tuple[str, Any], ...], source: Source, after: bool
) -> Statement:
    """`given` has the value of what shapes the SQL, and None for what only stands in it."""
    asked = dict.fromkeys(endpoint.filterset_class.base_filters)
    asked |= {name: Asked(name) if value is None else value for name, value in given}
    rows = endpoint().rows(asked, source)
    if (owner := asked.get("owner")) is not None:
        # Of every list, whatever it is about: what is not one's own is not there.
        rows = selectors.owned_by(rows=rows, owner=owner)
    # Named subscriptions are looked up in the index whoever and however many they are.
    is_lookup = source is Source.DAILY and any(
        asked.get(name) is not None for name in filters.NAMES
    )
    name = endpoint.__name__.lower() if is_lookup else ""
    return Statement.of(paged(rows, endpoint().keys(asked), after=after), name=name)
