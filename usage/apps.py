from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class UsageConfig(AppConfig):
    name = "usage"
    verbose_name = "Usage"

    def ready(self) -> None:
        from usage import checks  # noqa: F401 - importing registers them
        from usage.database.session_settings import set_on_every_connection

        set_on_every_connection()
        # post_migrate runs when all apps have their tables, also those of later migrations.
        post_migrate.connect(_grant_to_roles, sender=self)
        post_migrate.connect(_adapt_to_servers, sender=self)


def _grant_to_roles(using: str, **_kwargs: Any) -> None:
    from usage.database.roles import grant_missing

    grant_missing(using)


def _adapt_to_servers(using: str, **_kwargs: Any) -> None:
    from usage.services.capture.citus import adapt

    adapt(using)
