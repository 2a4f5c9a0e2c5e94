"""The pages. Each checks its form, calls selectors and services, and renders a template."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_safe

from usage import selectors
from usage.dashboard import charts, exceeding
from usage.dashboard.forms import MOST_DAYS_OF_ONE, OverLimitForm, UsageForm
from usage.dashboard.rendering import error_page, freshness, from_replicas, render_page, signed_in
from usage.dashboard.sums import sums_by_type
from usage.errors import BrokerAwayError, RefreshInProgressError
from usage.models import RefreshRun, Scope, Subscription
from usage.services.accounts.access import Access
from usage.services.raw import clock
from usage.services.totals.refresh_requests import request_refresh
from usage.services.totals.status import read_status

DEFAULT_DAYS = 31
RANGES = [7, 31, 92]
RUNS_DRAWN, RUNS_LISTED = 120, 20


@signed_in
@require_safe
@from_replicas
def usage_by_day(request: HttpRequest, access: Access) -> HttpResponse:
    """Show usage and price by day and type, of everybody or of one subscription."""
    today = clock.today()
    default = {"from_date": today - timedelta(days=DEFAULT_DAYS - 1), "to_date": today}
    form = UsageForm({**default, **request.GET.dict()})
    ranges = [(days, today - timedelta(days=days - 1), today) for days in RANGES]
    context: dict[str, Any] = {"form": form, "ranges": ranges, "freshness": freshness()}
    if not form.is_valid():
        return render_page(request, "usage.html", access, context, status=400)
    query = form.cleaned_data
    daily = selectors.refreshed_daily()
    if access.owner is not None:
        daily = selectors.owned_by(rows=daily, owner=access.owner)
    daily = daily.filter(day__gte=query["from_date"], day__lte=query["to_date"])
    if query["usage_type"]:
        daily = daily.filter(usage_type=query["usage_type"])
    if query["subscription"]:
        named = Subscription.objects.filter(external_id=query["subscription"])
        if access.owner is not None:
            named = named.filter(owner=access.owner)
        subscription_id = named.values_list("id", flat=True).first()
        if subscription_id is None:
            form.add_error("subscription", "No subscription has this external id.")
            return render_page(request, "usage.html", access, context, status=404)
        daily = daily.filter(subscription_id=subscription_id)
    if context["freshness"]:
        rows = list(selectors.day_totals(daily=daily).order_by("-day", "usage_type"))
        context |= {"days": rows, "sums": sums_by_type(rows), "charts": charts.of_usage(rows)}
    return render_page(request, "usage.html", access, context)


@signed_in
@require_safe
@from_replicas
def over_limit(request: HttpRequest, access: Access) -> HttpResponse:
    """List the subscriptions that reached the price limit, the largest total first."""
    this_month = clock.today().replace(day=1)
    last_month = (this_month - timedelta(days=1)).replace(day=1)
    is_submitted = bool(request.GET.get("price_limit"))
    form = OverLimitForm(request.GET if is_submitted else None, initial=request.GET.dict())
    seen = freshness()
    context: dict[str, Any] = {
        "form": form,
        "freshness": seen,
        "months": [
            ("This month", this_month, selectors.month_end(this_month)),
            ("Last month", last_month, selectors.month_end(last_month)),
        ],
    }
    if form.is_bound and not form.is_valid():
        return render_page(request, "over_limit.html", access, context, status=400)
    if form.is_bound and seen:
        query = form.cleaned_data
        lines, place = exceeding.page_of_lines(query, owner=access.owner, state=seen.state)
        context |= {
            "lines": lines,
            "next": place and _address(request, place),
            "usage_days": _usage_days(query),
        }
    return render_page(request, "over_limit.html", access, context)


@signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def refreshes(request: HttpRequest, access: Access, run_id: int | None = None) -> HttpResponse:
    """Show the last runs, the progress of one run, partitions and sizes. A POST requests a run."""
    if Scope.REFRESH_READ not in access.scopes:
        return error_page(request, 403, "Not for you", "This page is for operators (staff).")
    if request.method == "POST":
        return _request_refresh(request, access)
    runs = list(selectors.runs_newest_first()[:RUNS_DRAWN])
    followed = None
    if run_id is not None:
        followed = selectors.runs_newest_first().filter(pk=run_id).first()
        if followed is None:
            return error_page(request, 404, "No such refresh", "Runs are kept for 90 days.")
    status = read_status()
    context = {
        "freshness": freshness(),
        "status": status,
        "missing_days": any(part["missing_days"] for part in status.partitions.values()),
        "followed": followed,
        "runs": runs[:RUNS_LISTED],
        "counted": len(runs),
        "outcomes": {
            outcome: sum(run.status == outcome for run in runs)
            for outcome in RefreshRun.Status.values
        },
        "charts": charts.of_runs(runs),
    }
    return render_page(request, "refreshes.html", access, context)


def _request_refresh(request: HttpRequest, access: Access) -> HttpResponse:
    """Request a refresh, and redirect to the page of that run or of the run in progress."""
    if Scope.REFRESH_RUN not in access.scopes:
        return error_page(
            request, 403, "Not for you", "Only operators (staff) can request a refresh."
        )
    try:
        run = request_refresh()
    except RefreshInProgressError as error:
        run = error.run
    except BrokerAwayError as error:
        return error_page(request, 503, "The refresh was not requested", str(error))
    return redirect("dashboard:refresh", run.pk)


def _usage_days(query: dict[str, Any]) -> str:
    """Return the days as a query of the page of usage by day; empty if it cannot show so many."""
    first, last = query["from_date"], query["to_date"]
    if first is None or last is None or last - first >= timedelta(days=MOST_DAYS_OF_ONE):
        return ""
    return urlencode({"from_date": first, "to_date": last})


def _address(request: HttpRequest, place: dict[str, Any]) -> str:
    """Return the address of this page with the query parameters of `place`."""
    query = request.GET.copy()
    for name, value in place.items():
        query[name] = value
    return f"?{query.urlencode()}"
