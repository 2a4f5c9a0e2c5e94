"""Plain Django views at the paths of the API, without authentication, to compare the API with."""

import json
from calendar import monthrange
from datetime import date
from decimal import Decimal

from django.conf import settings
from django.db import connection
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from usage.models import DataUsageRecord, UsageType, VoiceUsageRecord

TOTALS = """
    SELECT usage_state.as_of, usage_state.time_zone, daily.usage_type, sum(daily.total_price),
        sum(daily.total_usage)::bigint, sum(daily.record_count)::bigint, min(daily.day),
        max(daily.day)
    FROM usage_state
    CROSS JOIN usage_daily AS daily
    WHERE daily.subscription_id = %s AND daily.day BETWEEN %s AND %s
    GROUP BY usage_state.as_of, usage_state.time_zone, daily.usage_type
    ORDER BY daily.usage_type
"""
PAGE = 100


def totals(request: HttpRequest) -> HttpResponse:
    """Return the same bytes as the API for one subscription and a month, by one SQL query."""
    subscription_id = int(request.GET["subscription_id"])
    first = date.fromisoformat(request.GET["month"] + "-01")
    last = first.replace(day=monthrange(first.year, first.month)[1])
    with connection.cursor() as cursor:
        cursor.execute(TOTALS, [subscription_id, first, last])
        rows = cursor.fetchall()
    body = {
        "as_of": rows[0][0].isoformat().replace("+00:00", "Z"),
        "live": False,
        "time_zone": rows[0][1],
        "currency": settings.USAGE_CURRENCY,
        "from_date": first.isoformat(),
        "to_date": last.isoformat(),
        "next": None,
        "results": [
            {
                "subscription_id": subscription_id,
                "usage_type": usage_type,
                "unit": "kilobytes" if usage_type == "data" else "seconds",
                "total_price": format(price, "f"),
                "total_usage": usage,
                "record_count": records,
                "first_day": first_day.isoformat(),
                "last_day": last_day.isoformat(),
            }
            for _, _, usage_type, price, usage, records, first_day, last_day in rows
        ],
    }
    return HttpResponse(json.dumps(body, separators=(",", ":")), content_type="application/json")


def over_limit(request: HttpRequest) -> JsonResponse:
    """Return the subscriptions over a limit in all days, by one ORM query of raw records a type."""
    limit = Decimal(request.GET["price_limit"])
    reached: dict[int, dict[str, Decimal]] = {}
    for usage_type, records in (
        (UsageType.DATA, DataUsageRecord.objects.all()),
        (UsageType.VOICE, VoiceUsageRecord.objects.all()),
    ):
        for row in (
            records.values("subscription_id").annotate(total=Sum("price")).filter(total__gte=limit)
        ):
            reached.setdefault(row["subscription_id"], {})[usage_type.value] = row["total"]
    largest_first = sorted(reached.items(), key=lambda item: (-max(item[1].values()), item[0]))
    return JsonResponse({"results": largest_first[:PAGE]})


urlpatterns = [
    path("api/v1/usage/totals/", totals),
    path("api/v1/usage/over-limit/", over_limit),
]
