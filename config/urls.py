from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    path("api/v1/", include("usage.api.urls")),
    path("", include("usage.dashboard.urls")),
    path("", include("usage.operations.urls")),
]

handler400 = "usage.api.errors.bad_request"
handler403 = "usage.api.errors.permission_denied"
handler404 = "usage.api.errors.not_found"
handler500 = "usage.api.errors.server_error"
