"""Pages of Django's admin, for staff: each module registers its own."""

from django.contrib import admin

from usage.admin import runs, subscriptions, tokens

__all__ = ["runs", "subscriptions", "tokens"]

admin.site.site_header = admin.site.site_title = "Usage totals"
