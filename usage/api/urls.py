from django.urls import path

from usage.api import endpoints, refreshes
from usage.api.schema import pages

app_name = "api"
urlpatterns = [
    path("usage/over-limit/", endpoints.OverLimit.as_view(), name="over-limit"),
    path("usage/totals/", endpoints.Totals.as_view(), name="totals"),
    path("usage/daily/", endpoints.Daily.as_view(), name="daily"),
    path("usage/records/", endpoints.Records.as_view(), name="records"),
    path("subscriptions/", endpoints.Subscriptions.as_view(), name="subscriptions"),
    path("refreshes/", refreshes.Refreshes.as_view(), name="refreshes"),
    path("refreshes/<int:run_id>/", refreshes.Refresh.as_view(), name="refresh"),
    path("schema/", pages.Description.as_view(), name="schema"),
    path("docs/", pages.Docs.as_view(), name="docs"),
]
