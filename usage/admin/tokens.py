"""Tokens of machine clients, for superusers alone: a token may act in the name of any user."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from usage.errors import TokenError
from usage.models import AccessToken, Scope
from usage.services.accounts.tokens import make_token, refuse_scopes_that_contradict, revoke_token


class NewToken(forms.ModelForm):
    scopes = forms.MultipleChoiceField(choices=Scope.choices, widget=forms.CheckboxSelectMultiple)

    class Meta:
        model = AccessToken
        fields = ["user", "name", "scopes", "expires_at"]

    def clean_scopes(self) -> list[str]:
        scopes: list[str] = self.cleaned_data["scopes"]
        try:
            refuse_scopes_that_contradict(scopes)
        except TokenError as error:
            raise forms.ValidationError(str(error)) from error
        return scopes

    def clean_expires_at(self) -> Any:
        expires_at = self.cleaned_data["expires_at"]
        if expires_at is not None and expires_at <= timezone.now():
            raise forms.ValidationError("This moment is in the past.")
        return expires_at


@admin.register(AccessToken)
class AccessTokenAdmin(admin.ModelAdmin):
    form = NewToken
    list_display = [
        *("id", "name", "user", "scopes", "created_at", "expires_at", "last_used_at"),
        "revoked_at",
    ]
    list_select_related = ["user"]
    ordering = ["-id"]
    raw_id_fields = ["user"]
    actions = ["revoke"]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_active and request.user.is_superuser)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse to delete a token: the row of a revoked one still shows whose it was."""
        return False

    def save_model(
        self, request: HttpRequest, obj: Any, form: forms.ModelForm, change: bool
    ) -> None:
        expires_at = form.cleaned_data["expires_at"]
        token, obj.key = make_token(
            user=obj.user,
            name=obj.name,
            scopes=[Scope(scope) for scope in obj.scopes],
            lifetime=None if expires_at is None else expires_at - timezone.now(),
        )
        obj.pk = token.pk

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Show the key, in this one response."""
        context = {
            **self.admin_site.each_context(request),
            "title": f"Token {obj.pk}: {obj.name}",
            "key": obj.key,
        }
        template = "admin/usage/accesstoken/made.html"
        return TemplateResponse(request, template, context)

    @admin.action(description="Revoke the selected tokens", permissions=["view"])
    def revoke(self, request: HttpRequest, tokens: QuerySet[AccessToken]) -> None:
        for token in tokens:
            revoke_token(token.pk)
