"""What `manage.py check --database default` says about the database."""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections

from usage.errors import TimeZoneChangedError
from usage.services.startup import refuse_another_time_zone

ANALYST_RELATIONS = ["usage_daily", "usage_daily_open", "usage_daily_live"]


@register(Tags.database)
def analysts_can_read(databases: Sequence[str] | None, **_kwargs: Any) -> list[CheckMessage]:
    if "default" not in (databases or []):
        return []
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_analyst')")
        (role_exists,) = cursor.fetchone()
        cursor.execute(
            "SELECT relation FROM unnest(%s) AS relations (relation)"
            " WHERE to_regclass(relation) IS NOT NULL"
            " AND (NOT %s OR NOT has_table_privilege(("
            "SELECT oid FROM pg_roles WHERE rolname = 'usage_analyst'"
            "), to_regclass(relation), 'SELECT'))",
            [ANALYST_RELATIONS, role_exists],
        )
        unreadable = [relation for (relation,) in cursor]
    if not unreadable:
        return []
    create = "" if role_exists else "CREATE ROLE usage_analyst NOLOGIN; "
    return [
        Warning(
            f"The role usage_analyst {'cannot read' if role_exists else 'is missing for'} "
            f"{', '.join(unreadable)}.",
            hint=f"Run: {create}GRANT SELECT ON {', '.join(unreadable)} TO usage_analyst;",
            id="usage.W001",
        )
    ]


@register(Tags.database)
def time_zone_is_kept(databases: Sequence[str] | None, **_kwargs: Any) -> list[CheckMessage]:
    if "default" not in (databases or []):
        return []
    try:
        refuse_another_time_zone()
    except TimeZoneChangedError as error:
        return [Error(str(error), id="usage.E001")]
    return []
