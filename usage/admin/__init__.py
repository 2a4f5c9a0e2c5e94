"""Pages of Django's admin, for staff. Each module registers its own pages."""

from django.contrib import admin

from usage.admin import runs, subscriptions, tokens

__all__ = ["runs", "subscriptions", "tokens"]

admin.site.site_header = admin.site.site_title = "Usage totals"
