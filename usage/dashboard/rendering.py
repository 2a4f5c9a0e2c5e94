"""How a page is answered: to whom, with what at its head, and what it says when it can't be."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeAlias

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache

from usage import selectors
from usage.errors import TotalsNotFilledError
from usage.models import Scope
from usage.services import servers
from usage.services.access import Access
from usage.services.locks import NOT_POPULATED, QUERY_CANCELED, is_of_server, sqlstate

# What the address of a page says.
Where = ParamSpec("Where")
Page: TypeAlias = Callable[Concatenate[HttpRequest, Access, Where], HttpResponse]
Endpoint: TypeAlias = Callable[Concatenate[HttpRequest, Where], HttpResponse]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Freshness:
    """How old the totals are, in seconds, and how many late keys wait to be in them."""

    as_of: datetime
    age_seconds: int
    max_age_seconds: int
    late_keys: int
    periods_filled: bool

    @property
    def is_fresh(self) -> bool:
        return self.age_seconds <= self.max_age_seconds


def freshness() -> Freshness | None:
    """The freshness now, or None when the totals were never filled."""
    try:
        state = selectors.totals_state()
    except TotalsNotFilledError:
        return None
    return Freshness(
        as_of=state.as_of,
        age_seconds=int(state.age.total_seconds()),
        max_age_seconds=settings.USAGE_MAX_AGE_SECONDS,
        late_keys=selectors.late_keys().count(),
        periods_filled=state.periods_filled,
    )


def signed_in(page: Page[Where]) -> Endpoint[Where]:
    """The page for whoever signed in, with what they may do; others are asked to sign in.

    When it can't be read from the database, a page says what to do.
    """

    @never_cache
    @wraps(page)
    def answered(request: HttpRequest, *args: Where.args, **where: Where.kwargs) -> HttpResponse:
        try:
            access = Access.of_person(request.user)
            if access is None:
                return redirect_to_login(request.get_full_path())
            return page(request, access, *args, **where)
        except (DatabaseError, InterfaceError) as error:
            if not is_of_server(error):
                raise
            logger.warning("A page could not be answered: %s", str(error).strip())
            return _database_fault(request, error)

    return answered


def from_replicas(page: Page[Where]) -> Page[Where]:
    """The page, which only reads, from the first server that can answer it."""

    @wraps(page)
    def read(
        request: HttpRequest, access: Access, *args: Where.args, **where: Where.kwargs
    ) -> HttpResponse:
        return servers.read(lambda: page(request, access, *args, **where))

    return read


def answer(
    request: HttpRequest,
    template: str,
    access: Access,
    context: dict[str, Any],
    *,
    status: int = 200,
) -> HttpResponse:
    """The page, with what every page has at its head."""
    head = {
        "reader": request.user.get_username(),
        "may_read_refreshes": Scope.REFRESH_READ in access.scopes,
        "may_run_refreshes": Scope.REFRESH_RUN in access.scopes,
        "currency": settings.USAGE_CURRENCY,
    }
    return render(request, f"dashboard/{template}", head | context, status=status)


def fault(request: HttpRequest, status: int, title: str, detail: str) -> HttpResponse:
    """A page that asks the database for nothing."""
    context = {"title": title, "detail": detail}
    return render(request, "dashboard/fault.html", context, status=status)


def _database_fault(request: HttpRequest, error: Exception) -> HttpResponse:
    match sqlstate(error):
        case code if code == QUERY_CANCELED:
            title = "This took too long"
            detail = "Go back and choose fewer days, one usage type or a subscription."
        case code if code == NOT_POPULATED:
            title, detail = "There are no totals yet", str(TotalsNotFilledError())
        case _:
            title = "The database cannot be reached"
            detail = "Try again in a few seconds; if it stays away, tell the operator."
    return fault(request, 503, title, detail)
