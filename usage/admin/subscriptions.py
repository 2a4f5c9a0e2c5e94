"""Subscriptions with their totals and their owner. Staff may change the owner alone.

A page lists raw records of one subscription, type and day, which is a range of their key. A list
of all raw records would read millions of rows to show a hundred.
"""

from collections.abc import Callable
from datetime import date
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Model, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join

from usage.errors import RecordsDroppedError
from usage.models import RECORD_MODELS, PeriodTotal, Subscription, UsageState, UsageType
from usage.notation import amount_text
from usage.selectors import day_records, refuse_dropped_day

MOST_RECORDS = 1_000
MONTHS_SHOWN = 24


class OneDay(forms.Form):
    """The usage type and the day of the records to list."""

    usage_type = forms.ChoiceField(choices=UsageType.choices)
    day = forms.DateField(
        widget=forms.DateInput(attrs={"type": "date"}), help_text="In the zone of the totals."
    )


def total_column(usage_type: UsageType) -> Callable[[Any], str]:
    """A column of the list: price and usage of one type over all days."""

    @admin.display(description=f"{usage_type.label.lower()}, all days")
    def column(subscription: Any) -> str:
        price = getattr(subscription, f"{usage_type.value}_price")
        return _price_and_usage(
            price, getattr(subscription, f"{usage_type.value}_usage"), usage_type
        )

    column.__name__ = f"{usage_type.value}_in_all"
    return column


TOTAL_COLUMNS = [total_column(usage_type) for usage_type in UsageType]


@admin.register(Subscription)
class SubscriptionAdmin(admin.ModelAdmin):
    list_display = ["id", "external_id", "owner", "created_at", *TOTAL_COLUMNS]
    list_select_related = ["owner"]
    ordering = ["id"]
    search_fields = ["external_id"]
    search_help_text = "The whole external_id, or the id"
    show_full_result_count = False
    raw_id_fields = ["owner"]
    readonly_fields = ["external_id", "created_at", "months", "records"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse to add one: systems that deliver usage make subscriptions and choose their id."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse to delete one: the database refuses it too if the subscription has usage."""
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Subscription]:
        """Add the price and the usage of all days, which are looked up for one page only."""
        totals = PeriodTotal.objects.filter(
            subscription_id=OuterRef("pk"), period=PeriodTotal.ALL_DAYS
        )
        return (
            super()
            .get_queryset(request)
            .annotate(
                **{
                    f"{usage_type.value}_{column}": Subquery(
                        totals.filter(usage_type=usage_type.value).values(f"total_{column}")
                    )
                    for usage_type in UsageType
                    for column in ("price", "usage")
                }
            )
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search by the whole external_id or id, each by its index: a part would read every row."""
        term = search_term.strip()
        if not term:
            return queryset, False
        found = queryset.filter(external_id=term)
        if term.isascii() and term.isdigit() and len(term) < 19:
            found |= queryset.filter(pk=int(term))
        return found, False

    def save_model(
        self, request: HttpRequest, obj: Subscription, form: forms.ModelForm, change: bool
    ) -> None:
        """Write only changed columns: the role of the web server may write the owner alone."""
        obj.save(update_fields=form.changed_data)

    @admin.display(description="totals by month")
    def months(self, subscription: Subscription) -> str:
        totals = (
            PeriodTotal.objects.filter(subscription=subscription, usage_type__in=UsageType.values)
            .exclude(period=PeriodTotal.ALL_DAYS)
            .order_by("-period", "usage_type")[: MONTHS_SHOWN * len(UsageType)]
        )
        lines = [
            (
                f"{total.period:%Y-%m}",
                total.usage_type,
                _price_and_usage(total.total_price, total.total_usage, UsageType(total.usage_type)),
            )
            for total in totals
        ]
        return format_html_join("", "<div>{} {}: {}</div>", lines) or "No usage."

    @admin.display(description="raw records")
    def records(self, subscription: Subscription) -> str:
        address = reverse("admin:usage_subscription_records", args=[subscription.pk])
        return format_html('<a href="{}">Look up a day</a>', address)

    def get_urls(self) -> list[URLPattern]:
        records = path(
            "<int:subscription_id>/records/",
            self.admin_site.admin_view(self.records_page),
            name="usage_subscription_records",
        )
        return [records, *super().get_urls()]

    def records_page(self, request: HttpRequest, subscription_id: int) -> HttpResponse:
        """Show the records of one day, or the form that asks for the day."""
        shown: list[type[Model]] = [Subscription, *RECORD_MODELS.values()]
        if not all(request.user.has_perm(f"usage.view_{each._meta.model_name}") for each in shown):
            raise PermissionDenied
        subscription = get_object_or_404(Subscription, pk=subscription_id)
        form = OneDay(request.GET if "day" in request.GET else None)
        records: list[dict[str, Any]] | None = None
        if form.is_valid():
            try:
                records = _records(subscription_id, **form.cleaned_data)
            except RecordsDroppedError as error:
                form.add_error("day", str(error))
        context = {
            **self.admin_site.each_context(request),
            "title": f"Raw records of {subscription}",
            "opts": self.opts,
            "subscription": subscription,
            "form": form,
            "records": None if records is None else records[:MOST_RECORDS],
            "most": MOST_RECORDS if records and len(records) > MOST_RECORDS else None,
        }
        return TemplateResponse(request, "admin/usage/subscription/records.html", context)


def _records(subscription_id: int, usage_type: str, day: date) -> list[dict[str, Any]]:
    """Return the records of a day by their time; one more than a page shows, if there are more."""
    refuse_dropped_day(day=day, kept_from=UsageState.objects.get().raw_kept_from)
    rows = day_records(
        subscription_id=subscription_id, usage_type=UsageType(usage_type), day=day
    ).order_by("usage_date", "id")
    return [{**row, "price": amount_text(row["price"])} for row in rows[: MOST_RECORDS + 1]]


def _price_and_usage(price: Any, usage: int | None, usage_type: UsageType) -> str:
    return "" if price is None else f"{amount_text(price)} for {usage:,} {usage_type.unit}"
