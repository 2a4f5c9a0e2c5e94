"""View helpers: login, shared template context, error pages."""

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
from usage.database import routing
from usage.database.errors import NOT_POPULATED, QUERY_CANCELED, is_server_error, sqlstate
from usage.errors import TotalsNotFilledError
from usage.models import Scope
from usage.selectors import TotalsState
from usage.services.accounts.access import Access

# The arguments that the URL pattern of a page captures.
PathArguments = ParamSpec("PathArguments")
Page: TypeAlias = Callable[Concatenate[HttpRequest, Access, PathArguments], HttpResponse]
Endpoint: TypeAlias = Callable[Concatenate[HttpRequest, PathArguments], HttpResponse]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Freshness:
    """The state of the totals, and the number of late keys that wait for a refresh."""

    state: TotalsState
    max_age_seconds: int
    late_keys: int

    @property
    def as_of(self) -> datetime:
        return self.state.as_of

    @property
    def age_seconds(self) -> int:
        return int(self.state.age.total_seconds())

    @property
    def is_fresh(self) -> bool:
        return self.age_seconds <= self.max_age_seconds


def freshness() -> Freshness | None:
    """Return the freshness now, or None when the totals were never filled."""
    try:
        state = selectors.totals_state()
    except TotalsNotFilledError:
        return None
    return Freshness(
        state=state,
        max_age_seconds=settings.USAGE_MAX_AGE_SECONDS,
        late_keys=selectors.late_keys().count(),
    )


def signed_in(page: Page[PathArguments]) -> Endpoint[PathArguments]:
    """Decorate a page: pass the rights of the signed-in user, redirect others to the login.

    If the database fails, respond with an error page that says what to do.
    """

    @never_cache
    @wraps(page)
    def wrapper(
        request: HttpRequest, *args: PathArguments.args, **kwargs: PathArguments.kwargs
    ) -> HttpResponse:
        try:
            access = Access.of_person(request.user)
            if access is None:
                return redirect_to_login(request.get_full_path())
            return page(request, access, *args, **kwargs)
        except (DatabaseError, InterfaceError) as error:
            if not is_server_error(error):
                raise
            logger.warning("A page could not be rendered: %s", str(error).strip())
            return _database_fault(request, error)

    return wrapper


def from_replicas(page: Page[PathArguments]) -> Page[PathArguments]:
    """Decorate a page that only reads: run it on the first server that responds."""

    @wraps(page)
    def wrapper(
        request: HttpRequest,
        access: Access,
        *args: PathArguments.args,
        **kwargs: PathArguments.kwargs,
    ) -> HttpResponse:
        return routing.read(lambda: page(request, access, *args, **kwargs))

    return wrapper


def render_page(
    request: HttpRequest,
    template: str,
    access: Access,
    context: dict[str, Any],
    *,
    status: int = 200,
) -> HttpResponse:
    """Render a template with the context that the header of every page needs."""
    shared = {
        "reader": request.user.get_username(),
        "may_read_refreshes": Scope.REFRESH_READ in access.scopes,
        "may_run_refreshes": Scope.REFRESH_RUN in access.scopes,
        "currency": settings.USAGE_CURRENCY,
    }
    return render(request, f"dashboard/{template}", shared | context, status=status)


def error_page(request: HttpRequest, status: int, title: str, detail: str) -> HttpResponse:
    """Render an error page, without a query to the database."""
    context = {"title": title, "detail": detail}
    return render(request, "dashboard/fault.html", context, status=status)


def _database_fault(request: HttpRequest, error: Exception) -> HttpResponse:
    match sqlstate(error):
        case code if code == QUERY_CANCELED:
            title = "This took too long"
            detail = "Go back and choose fewer days, one usage type or one subscription."
        case code if code == NOT_POPULATED:
            title, detail = "There are no totals yet", str(TotalsNotFilledError())
        case _:
            title = "The database cannot be reached"
            detail = "Try again in a few seconds; if it stays away, tell the operator."
    return error_page(request, 503, title, detail)
