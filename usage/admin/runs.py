"""The history of refreshes, read-only."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from usage.models import RefreshRun


@admin.register(RefreshRun)
class RefreshRunAdmin(admin.ModelAdmin):
    list_display = [
        *("id", "status", "trigger", "started_at", "took", "open_rows", "rows_changed"),
        *("keys_repaired", "days_sealed", "error", "remark"),
    ]
    list_filter = ["status", "trigger"]
    ordering = ["-started_at"]
    show_full_result_count = False

    @admin.display(description="seconds")
    def took(self, run: RefreshRun) -> str:
        return "" if run.seconds is None else f"{run.seconds:.2f}"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
