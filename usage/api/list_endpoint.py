"""Lists over HTTP: authenticate, validate the query, read the rows, respond."""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple

from django.conf import settings
from django.http.response import HttpResponseBase
from rest_framework.request import Request

from usage.api import csv_responses, responses
from usage.api.authentication import signed_in, state_here
from usage.api.endpoint import Endpoint
from usage.api.negotiation import format_accepted
from usage.api.permissions import MayReadUsage
from usage.database import routing
from usage.errors import StaleTotalsError
from usage.lists.filters import CSV, ListFilter
from usage.lists.large_sums import large_sums_explained
from usage.lists.pagination import DEFAULT_PAGE_SIZE, Pager
from usage.lists.usage_list import UsageList
from usage.notation import moment_text
from usage.selectors import Source, TotalsState


class ListQuery(NamedTuple):
    """A request with the parameters and the page of its query."""

    request: Request
    parameters: Mapping[str, Any]
    pager: Pager


class Reading(NamedTuple):
    """The totals to respond from: their state on one server, the source of the rows, and the tag
    of the response, None if it may change while the totals do not."""

    state: TotalsState
    source: Source
    tag: str | None


class ListEndpoint(Endpoint):
    """A list: one page of JSON in the envelope that every list has, or every row as CSV."""

    permission_classes = [MayReadUsage]
    usage_list: ClassVar[UsageList]
    # The TypedDict of a page.
    shape: ClassVar[type]
    # Whether this is the path that ends with .csv, which returns every row.
    is_file: bool = False

    def get(self, request: Request) -> HttpResponseBase:
        caller = signed_in(request)
        query = self.list_query(request, owner=caller.access.owner)
        at_sign_in = self.reading(query, caller.state)
        if at_sign_in.source is Source.LIVE:
            with routing.at(routing.PRIMARY), large_sums_explained(query.parameters):
                return self.respond(query, at_sign_in)
        # If the client's ETag matches the state read at sign-in, the response is a 304 without a
        # read from a replica, which may lag.
        if at_sign_in.tag and responses.is_known(request, at_sign_in.tag):
            return responses.not_modified(at_sign_in.tag)
        is_at_replica = caller.server != routing.PRIMARY
        return routing.read(
            partial(self.respond_here, query, at_sign_in),
            first=caller.server if is_at_replica else None,
        )

    @property
    def filter_class(self) -> type[ListFilter]:
        """The class of the query of this path."""
        return self.usage_list.file_filter_class if self.is_file else self.usage_list.filter_class

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """Accept every `Accept` header at the path of a file, which is always CSV."""
        return super().perform_content_negotiation(request, force=force or self.is_file)

    def list_query(self, request: Request, *, owner: int | None) -> ListQuery:
        """Return the request with its parameters. Raises ValidationError for their faults."""
        checked = self.filter_class(
            request.query_params,
            default_format=CSV if self.is_file else format_accepted(request),
            owner=owner,
        )
        parameters = checked.parameters
        keys = self.usage_list.keys(parameters)
        pager = Pager(
            keys=keys,
            query=checked.digest(name=type(self).__name__, columns=[key.column for key in keys]),
            cursor=parameters.get("cursor"),
            size=parameters.get("page_size") or DEFAULT_PAGE_SIZE,
        )
        return ListQuery(request, parameters, pager)

    def reading(self, query: ListQuery, state: TotalsState) -> Reading:
        """Return what to read when the totals of a server have this state."""
        source = self.usage_list.source(query.parameters, state)
        return Reading(state, source, self.tag(query, state, source))

    def reading_here(self, query: ListQuery) -> Reading:
        """Return what to read on the current server.

        Raises NotHereError if its totals are too old for max_staleness.
        """
        state = state_here()
        if state is None or state.as_of is None:
            raise routing.NotHereError
        try:
            reading = self.reading(query, state)
        except StaleTotalsError as error:
            raise routing.NotHereError from error
        if reading.source is Source.LIVE:
            raise routing.NotHereError
        return reading

    def tag(self, query: ListQuery, state: TotalsState, source: Source) -> str | None:
        """Return the tag of the response from these totals; None if it may change without them.

        The subscription of an external id, and the subscriptions of an owner, may change at any
        time.
        """
        request, parameters, pager = query
        if source is Source.LIVE:
            return None
        if parameters.get("external_id") is not None or parameters["owner"] is not None:
            return None
        # Every change of totals updates usage_state in the same transaction, so each server has
        # both or neither.
        return responses.tag_of(
            request.user.pk,
            (pager.query, pager.size, pager.cursor, parameters["format"]),
            (state.as_of, state.version, settings.USAGE_CURRENCY),
        )

    def respond_here(self, query: ListQuery, at_sign_in: Reading) -> HttpResponseBase:
        """Return the response of the current server, by the state of its own totals."""
        if routing.current() == signed_in(query.request).server:
            return self.respond(query, at_sign_in)
        here = self.reading_here(query)
        if here.tag and responses.is_known(query.request, here.tag):
            return responses.not_modified(here.tag)
        return self.respond(query, here)

    def respond(self, query: ListQuery, reading: Reading) -> HttpResponseBase:
        """Return the response with rows of the current server.

        The state was read before the rows, on the same server: a refresh in between makes the
        response newer than its as_of, never older.
        """
        response: HttpResponseBase
        if query.parameters["format"] == CSV:
            response = csv_responses.respond(
                self.usage_list, query.request, query.parameters, reading.state, reading.source
            )
        else:
            response = responses.page(self.page(query, reading))
        if reading.tag is not None:
            response["ETag"] = reading.tag
        return response

    def page(self, query: ListQuery, reading: Reading) -> Mapping[str, Any]:
        """Return the envelope with the rows of one page."""
        request, parameters, pager = query
        state, source, _ = reading
        statement = self.usage_list.statement(parameters, source, after=pager.cursor is not None)
        columns, found = statement.fetch({**parameters, **pager.values})
        rows, cursor = pager.cut(columns, found)
        from_date, to_date = self.usage_list.days(parameters)
        return {
            "as_of": moment_text(state.moment_of(source)),
            "live": source is Source.LIVE,
            "time_zone": state.time_zone,
            "currency": settings.USAGE_CURRENCY,
            "from_date": from_date,
            "to_date": to_date,
            "next": responses.next_url(request, cursor) if cursor else None,
            "results": [self.usage_list.result(row, parameters) for row in rows],
        }
