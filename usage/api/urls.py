from django.urls import path

from usage.api import endpoints, refreshes, root
from usage.api.schema import schema_views

app_name = "api"
LISTS = {
    "usage/over-limit": endpoints.OverLimit,
    "usage/totals": endpoints.Totals,
    "usage/daily": endpoints.Daily,
    "usage/records": endpoints.Records,
    "subscriptions": endpoints.Subscriptions,
}
urlpatterns = [
    path("", root.Root.as_view(), name="root"),
    *(path(f"{name}/", view.as_view(), name=name) for name, view in LISTS.items()),
    *(
        path(f"{name}.csv", view.as_view(is_file=True), name=f"{name}.csv")
        for name, view in LISTS.items()
    ),
    path("refreshes/", refreshes.Refreshes.as_view(), name="refreshes"),
    path("refreshes/<int:run_id>/", refreshes.Refresh.as_view(), name="refresh"),
    path("schema/", schema_views.Description.as_view(), name="schema"),
    path("docs/", schema_views.Docs.as_view(), name="docs"),
]
