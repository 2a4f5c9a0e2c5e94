"""Lists of the API: authenticate, validate the query, run one statement, respond."""

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
from usage.api.statements import RequestValue, Statement
from usage.database import routing
from usage.errors import StaleTotalsError
from usage.models import Subscription
from usage.notation import moment_text
from usage.selectors import Rows, Source, TotalsState
from usage.services.totals import overflow

# The timeout of each statement that searches for the records whose sum is too large.
SEARCH_SECONDS = 5

# Parameters that do not choose rows.
NOT_IN_SQL = frozenset({"cursor", "page_size", "max_staleness", "live", "format"})

Row: TypeAlias = tuple[Any, ...]


class ListEndpoint(Endpoint):
    """A list: one page of JSON in the envelope that every list has, or every row as CSV."""

    permission_classes = [MayReadUsage]
    filterset_class: ClassVar[type[filters.ListFilter]]
    # The query of the CSV: filterset_class without the parameters of a page.
    file_filterset_class: ClassVar[type[filters.ListFilter]]
    # Whether this is the path that ends with .csv, which returns every row.
    is_file: bool = False
    # The TypedDict of a page.
    shape: ClassVar[type]
    # Parameters whose value changes the SQL. Only the presence of the others changes it.
    shaped_by: ClassVar[frozenset[str]] = frozenset()
    # The columns of a CSV or another table: the fields of a JSON result if it is flat.
    columns: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "filterset_class" in vars(cls):
            cls.file_filterset_class = filters.file_filter(cls.filterset_class)

    def get(self, request: Request) -> HttpResponseBase:
        caller = signed_in(request)
        query = self.query_class(
            request.query_params,
            format_accepted=filters.CSV if self.is_file else format_accepted(request),
            owner=caller.access.owner,
        )
        parameters = query.parameters
        keys = self.keys(parameters)
        pager = Pager(
            keys=keys,
            query=query.digest(endpoint=type(self).__name__, columns=[key.column for key in keys]),
            cursor=parameters.get("cursor"),
            size=parameters.get("page_size") or DEFAULT_PAGE_SIZE,
        )
        # The state is read before the rows, on the same server: a refresh in between makes the
        # response newer than its as_of, never older.
        state = caller.state
        source = self.source(parameters, state)
        if source is Source.LIVE:
            with routing.at(routing.PRIMARY), _explained_overflow(parameters):
                return self.respond(request, parameters, pager, state, source)
        # If the client's ETag matches the state read at sign-in, the response is a 304 without a
        # read from a replica, which may lag.
        tag = self.tag(request, parameters, pager, state)
        if tag is not None and responses.is_known(request, tag):
            return responses.not_modified(tag)

        def respond_here() -> HttpResponseBase:
            if routing.current() == caller.server:
                return self.respond(request, parameters, pager, state, source, tag)
            server_state, server_source = self.state_and_source(parameters)
            server_tag = self.tag(request, parameters, pager, server_state)
            if server_tag is not None and responses.is_known(request, server_tag):
                return responses.not_modified(server_tag)
            return self.respond(request, parameters, pager, server_state, server_source, server_tag)

        is_at_replica = caller.server != routing.PRIMARY
        return routing.read(respond_here, first=caller.server if is_at_replica else None)

    @property
    def query_class(self) -> type[filters.ListFilter]:
        """The class of the query of this path."""
        return self.file_filterset_class if self.is_file else self.filterset_class

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """Accept every `Accept` header at the path of a file, which is always CSV."""
        return super().perform_content_negotiation(request, force=force or self.is_file)

    def state_and_source(self, parameters: Mapping[str, Any]) -> tuple[TotalsState, Source]:
        """Return the state of the totals on the current server, and the source of the rows there.

        Raises NotHereError if its totals are too old for max_staleness.
        """
        state = state_here()
        if state is None or state.as_of is None:
            raise routing.NotHereError
        try:
            source = self.source(parameters, state)
        except StaleTotalsError as error:
            raise routing.NotHereError from error
        if source is Source.LIVE:
            raise routing.NotHereError
        return state, source

    def tag(
        self, request: Request, parameters: Mapping[str, Any], pager: Pager, state: TotalsState
    ) -> str | None:
        """Return the tag of the response from these totals; None if it may change without them.

        The subscription of an external id, and the subscriptions of an owner, may change at any
        time.
        """
        if parameters.get("external_id") is not None or parameters["owner"] is not None:
            return None
        # Every change of totals updates usage_state in the same transaction, so each server has
        # both or neither.
        return responses.tag_of(
            request.user.pk,
            (pager.query, pager.size, pager.cursor, parameters["format"]),
            (state.as_of, state.version, settings.USAGE_CURRENCY),
        )

    def respond(
        self,
        request: Request,
        parameters: Mapping[str, Any],
        pager: Pager,
        state: TotalsState,
        source: Source,
        tag: str | None = None,
    ) -> HttpResponseBase:
        """Return the response with the rows of the current server, whose totals have this state."""
        response: HttpResponseBase
        if parameters["format"] == filters.CSV:
            response = csv_responses.respond(self, request, parameters, state, source)
        else:
            response = responses.page(self.page(request, parameters, pager, state, source))
        if tag is not None:
            response["ETag"] = tag
        return response

    def page(
        self,
        request: Request,
        parameters: Mapping[str, Any],
        pager: Pager,
        state: TotalsState,
        source: Source,
    ) -> Mapping[str, Any]:
        """Return the envelope with the rows of one page."""
        statement = self.statement(parameters, source, after=pager.cursor is not None)
        columns, found = statement.fetch({**parameters, **pager.values})
        rows, cursor = pager.cut(columns, found)
        from_date, to_date = self.days(parameters)
        return {
            "as_of": moment_text(state.moment_of(source)),
            "live": source is Source.LIVE,
            "time_zone": state.time_zone,
            "currency": settings.USAGE_CURRENCY,
            "from_date": from_date,
            "to_date": to_date,
            "next": next_url(request, cursor) if cursor else None,
            "results": [self.result(row, parameters) for row in rows],
        }

    def statement(self, parameters: Mapping[str, Any], source: Source, *, after: bool) -> Statement:
        """Return the statement of the first page, or of a page `after` a position. Queries that
        differ only in values share it, so it is compiled once."""
        used = tuple(
            (name, value if name in self.shaped_by else None)
            for name, value in parameters.items()
            if value is not None and name not in NOT_IN_SQL
        )
        endpoint: Any = type(self)
        return _statement(endpoint, used, source, after)

    def source(self, parameters: Mapping[str, Any], state: TotalsState) -> Source:
        """Return the source of the rows. By default they are live, so never too old."""
        return Source.LIVE

    @abstractmethod
    def rows(self, parameters: Mapping[str, Any], source: Source) -> Rows:
        """Return the rows of a query. A RequestValue may replace each value not in `shaped_by`."""

    @abstractmethod
    def keys(self, parameters: Mapping[str, Any]) -> Sequence[CursorKey]:
        """Return the order of the rows, which ends with a unique key."""

    @abstractmethod
    def result(self, row: Row, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return one row as a JSON result."""

    def lines(self, row: Row, parameters: Mapping[str, Any]) -> Iterator[Row]:
        """Yield the lines of one row in a table with `columns`."""
        yield tuple(self.result(row, parameters).values())

    def days(self, parameters: Mapping[str, Any]) -> tuple[date | None, date | None]:
        """Return the first and the last requested day, both included; None where open."""
        return parameters.get("from_date"), parameters.get("to_date")


@contextmanager
def _explained_overflow(parameters: Mapping[str, Any]) -> Iterator[None]:
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


@lru_cache(maxsize=2000)
def _statement(
    endpoint: type[ListEndpoint], used: tuple[tuple[str, Any], ...], source: Source, after: bool
) -> Statement:
    """Compile the statement of the queries that use these parameters.

    `used` has the name of each parameter. Its value is None unless the value changes the SQL.
    """
    parameters = dict.fromkeys(endpoint.filterset_class.base_filters)
    parameters |= {name: RequestValue(name) if value is None else value for name, value in used}
    rows = endpoint().rows(parameters, source)
    if (owner := parameters.get("owner")) is not None:
        # In every list a subscription of another user is absent, exactly like a missing one.
        rows = selectors.owned_by(rows=rows, owner=owner)
    # Named subscriptions are always looked up in the index, so one plan fits any of them.
    is_lookup = source is Source.DAILY and any(
        parameters.get(name) is not None for name in filters.NAMES
    )
    name = endpoint.__name__.lower() if is_lookup else ""
    return Statement.of(paged(rows, endpoint().keys(parameters), after=after), name=name)
