"""The history of refreshes, and requests for a refresh."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.http import HttpResponse
from django.urls import reverse
from rest_framework.exceptions import NotFound
from rest_framework.request import Request

from usage import selectors
from usage.api import responses
from usage.api.bodies import refuse_fields
from usage.api.endpoint import Endpoint, refuse_parameters
from usage.api.permissions import MayReadOrRunRefreshes
from usage.lists.pagination import DEFAULT_PAGE_SIZE, CursorKey, Pager, paged
from usage.lists.query import PageFilter
from usage.models import RefreshRun
from usage.notation import moment_text
from usage.selectors import RUN_COLUMNS
from usage.services.totals.refresh_requests import request_refresh

NEWEST_FIRST = CursorKey("id", descending=True)


class Refreshes(Endpoint):
    """Every refresh, the newest first. The history holds 90 days."""

    permission_classes = [MayReadOrRunRefreshes]

    def get(self, request: Request) -> HttpResponse:
        query = PageFilter(request.query_params)
        pager = Pager(
            keys=[NEWEST_FIRST],
            query=query.digest(name=type(self).__name__, columns=[NEWEST_FIRST.column]),
            cursor=query.parameters["cursor"],
            size=query.parameters["page_size"] or DEFAULT_PAGE_SIZE,
        )
        runs = paged(selectors.runs_newest_first(), pager.keys, after=pager.position)
        found = list(runs.values_list(*RUN_COLUMNS)[: pager.size + 1])
        rows, cursor = pager.cut(list(RUN_COLUMNS), found)
        return responses.page(
            {
                "next": responses.next_url(request, cursor) if cursor else None,
                "results": [_result(*row) for row in rows],
            }
        )

    def post(self, request: Request) -> HttpResponse:
        """Request a refresh. A worker takes it at once. While a refresh is queued or running,
        another request is a 409."""
        refuse_parameters(request)
        refuse_fields(request)
        run = request_refresh()
        response = responses.page(_result_of(run))
        response.status_code = 202
        response["Location"] = reverse("api:refresh", args=[run.pk])
        return response


class Refresh(Endpoint):
    """One refresh."""

    permission_classes = [MayReadOrRunRefreshes]

    def get(self, request: Request, run_id: int) -> HttpResponse:
        refuse_parameters(request)
        run = selectors.runs_newest_first().filter(pk=run_id).first()
        if run is None:
            raise NotFound(f"There is no refresh {run_id}. Refreshes are kept for 90 days.")
        return responses.page(_result_of(run))


def _result_of(run: RefreshRun) -> Mapping[str, Any]:
    return _result(*(getattr(run, column) for column in RUN_COLUMNS))


def _result(*columns: Any) -> Mapping[str, Any]:
    """Return the result of a run, from its RUN_COLUMNS."""
    return {
        name: moment_text(value) if isinstance(value, datetime) else value
        for name, value in zip(RUN_COLUMNS, columns, strict=True)
    }
