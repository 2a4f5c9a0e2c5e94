"""The pages. Each reads its form, asks selectors and services, and is rendered."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_safe

from usage import selectors
from usage.dashboard import charts, exceeding
from usage.dashboard.forms import MOST_DAYS_OF_ONE, OverLimitForm, UsageForm
from usage.dashboard.rendering import answer, fault, freshness, from_replicas, signed_in
from usage.dashboard.sums import sums_by_type
from usage.errors import BrokerAwayError, RefreshInProgressError
from usage.models import RefreshRun, Scope, Subscription
from usage.services import clock
from usage.services.access import Access
from usage.services.refresh_requests import request_refresh
from usage.services.status import read_status

DEFAULT_DAYS = 31
RANGES = [7, 31, 92]
RUNS_DRAWN, RUNS_LISTED = 120, 20


@signed_in
@require_safe
@from_replicas
def usage_by_day(request: HttpRequest, access: Access) -> HttpResponse:
    """Usage and price by day and type, of everybody or of one subscription."""
    today = clock.today()
    default = {"from_date": today - timedelta(days=DEFAULT_DAYS - 1), "to_date": today}
    form = UsageForm({**default, **request.GET.dict()})
    ranges = [(days, today - timedelta(days=days - 1), today) for days in RANGES]
    context: dict[str, Any] = {"form": form, "ranges": ranges, "freshness": freshness()}
    if not form.is_valid():
        return answer(request, "usage.html", access, context, status=400)
    asked = form.cleaned_data
    daily = selectors.refreshed_daily()
    if access.owner is not None:
        daily = selectors.owned_by(rows=daily, owner=access.owner)
    daily = daily.filter(day__gte=asked["from_date"], day__lte=asked["to_date"])
    if asked["usage_type"]:
        daily = daily.filter(usage_type=asked["usage_type"])
    if asked["subscription"]:
        named = Subscription.objects.filter(external_id=asked["subscription"])
        if access.owner is not None:
            named = named.filter(owner=access.owner)
        subscription_id = named.values_list("id", flat=True).first()
        if subscription_id is None:
            form.add_error("subscription", "No subscription has this external id.")
            return answer(request, "usage.html", access, context, status=404)
        daily = daily.filter(subscription_id=subscription_id)
    if context["freshness"]:
        rows = list(selectors.day_totals(daily=daily).order_by("-day", "usage_type"))
        context |= {"days": rows, "sums": sums_by_type(rows), "charts": charts.of_usage(rows)}
    return answer(request, "usage.html", access, context)


@signed_in
@require_safe
@from_replicas
def over_limit(request: HttpRequest, access: Access) -> HttpResponse:
    """Who reached the price limit typed in, the largest total first."""
    this_month = clock.today().replace(day=1)
    last_month = (this_month - timedelta(days=1)).replace(day=1)
    is_asked = bool(request.GET.get("price_limit"))
    form = OverLimitForm(request.GET if is_asked else None, initial=request.GET.dict())
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
        return answer(request, "over_limit.html", access, context, status=400)
    if form.is_bound and seen:
        asked = form.cleaned_data
        lines, place = exceeding.listed(
            asked, owner=access.owner, periods_filled=seen.periods_filled
        )
        context |= {
            "lines": lines,
            "next": place and _address(request, place),
            "usage_days": _usage_days(asked),
        }
    return answer(request, "over_limit.html", access, context)


@signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def refreshes(request: HttpRequest, access: Access, run_id: int | None = None) -> HttpResponse:
    """How refreshes went, how one of them does, and what there is on disk. A POST asks for one."""
    if Scope.REFRESH_READ not in access.scopes:
        return fault(request, 403, "Not for you", "This page is for operators (staff).")
    if request.method == "POST":
        return _ask_for_refresh(request, access)
    runs = list(selectors.runs_newest_first()[:RUNS_DRAWN])
    followed = None
    if run_id is not None:
        followed = selectors.runs_newest_first().filter(pk=run_id).first()
        if followed is None:
            return fault(request, 404, "No such refresh", "Those of 90 days are kept.")
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
    return answer(request, "refreshes.html", access, context)


def _ask_for_refresh(request: HttpRequest, access: Access) -> HttpResponse:
    """To the page of the refresh that was asked for, or of the one that is in progress."""
    if Scope.REFRESH_RUN not in access.scopes:
        return fault(request, 403, "Not for you", "Only operators (staff) ask for a refresh.")
    try:
        run = request_refresh()
    except RefreshInProgressError as error:
        run = error.run
    except BrokerAwayError as error:
        return fault(request, 503, "No refresh was asked for", str(error))
    return redirect("dashboard:refresh", run.pk)


def _usage_days(asked: dict[str, Any]) -> str:
    """The days of the list as the page of usage by day takes them, which has not any number."""
    first, last = asked["from_date"], asked["to_date"]
    if first is None or last is None or last - first >= timedelta(days=MOST_DAYS_OF_ONE):
        return ""
    return urlencode({"from_date": first, "to_date": last})


def _address(request: HttpRequest, place: dict[str, Any]) -> str:
    """The address of this page at another place of its list."""
    query = request.GET.copy()
    for name, value in place.items():
        query[name] = value
    return f"?{query.urlencode()}"
