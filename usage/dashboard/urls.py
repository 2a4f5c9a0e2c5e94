from django.urls import path

from usage.dashboard import pages

app_name = "dashboard"
urlpatterns = [
    path("", pages.usage_by_day, name="usage"),
    path("over-limit/", pages.over_limit, name="over-limit"),
    path("refreshes/", pages.refreshes, name="refreshes"),
    path("refreshes/<int:run_id>/", pages.refreshes, name="refresh"),
]
