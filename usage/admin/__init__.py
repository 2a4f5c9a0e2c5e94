"""Pages of Django's admin, for staff: each module registers its own."""

from usage.admin import runs, subscriptions, tokens

__all__ = ["runs", "subscriptions", "tokens"]
