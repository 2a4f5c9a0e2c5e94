from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    path("api/v1/", include("usage.api.urls")),
    path("", include("usage.dashboard.urls")),
    path("", include("usage.monitoring.urls")),
]

handler400 = "usage.api.error_responses.bad_request"
handler403 = "usage.api.error_responses.permission_denied"
handler404 = "usage.api.error_responses.not_found"
handler500 = "usage.api.error_responses.server_error"
