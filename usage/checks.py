"""What `manage.py check --database default` says about the database."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import ProgrammingError

from usage.errors import SettingChangedError, TimeZoneMisreadError
from usage.services import sequences
from usage.services.placement import statements_to_lead_back
from usage.services.roles import missing_grants, public_functions, unlimited_analysts
from usage.services.startup import (
    refuse_misread_time_zone,
    refuse_other_settings,
    stored_time_zone,
)


@register(Tags.database)
def roles_have_their_privileges(
    databases: Sequence[str] | None, **_kwargs: Any
) -> list[CheckMessage]:
    if "default" not in (databases or []):
        return []
    warnings: list[CheckMessage] = []
    for role, grants in groupby(missing_grants(), key=lambda grant: grant.role):
        missing = list(grants)
        exists = missing[0].role_exists
        relations = ", ".join(sorted({name for grant in missing for name in grant.relations}))
        statements = [] if exists else [f"CREATE ROLE {role} NOLOGIN"]
        statements += map(str, missing)
        warnings.append(
            Warning(
                f"The role {role} {'lacks privileges on' if exists else 'is missing for'} "
                f"{relations}.",
                hint=f"Run: {'; '.join(statements)};",
                id="usage.W001",
            )
        )
    return warnings


@register(Tags.database)
def functions_are_their_owners(
    databases: Sequence[str] | None, **_kwargs: Any
) -> list[CheckMessage]:
    if "default" not in (databases or []):
        return []
    return [
        Warning(
            "Everybody may run a function that only its owner should.",
            hint=f"Run: {statement}; or: manage.py migrate",
            id="usage.W004",
        )
        for statement in public_functions()
    ]


@register(Tags.database)
def restore_is_complete(databases: Sequence[str] | None, **_kwargs: Any) -> list[CheckMessage]:
    """Warnings, since an error would keep a restored database from being migrated."""
    if "default" not in (databases or []):
        return []
    try:
        statements, behind = statements_to_lead_back(), sequences.behind()
    except ProgrammingError:
        return []  # not migrated yet
    found: list[CheckMessage] = [
        Warning(
            "The triggers on the raw tables log late keys in another schema than theirs.",
            hint=f"Run: {statement}; then: manage.py verify_usage --repair",
            id="usage.W005",
        )
        for statement in statements
    ]
    found += [
        Warning(
            f"The sequence {sequence} has not reached {day}, as usage_state has it.",
            hint="A restore left it behind. Run: manage.py check_restore",
            id="usage.W006",
        )
        for sequence, day in behind.items()
    ]
    return found


@register(Tags.database)
def analysts_have_a_time_limit(
    databases: Sequence[str] | None, **_kwargs: Any
) -> list[CheckMessage]:
    if "default" not in (databases or []):
        return []
    return [
        Warning(
            "The statements of an analyst may take for ever.",
            hint=f"Run: {statement};",
            id="usage.W002",
        )
        for statement in unlimited_analysts()
    ]


@register(Tags.database)
def settings_are_kept(databases: Sequence[str] | None, **_kwargs: Any) -> list[CheckMessage]:
    if "default" not in (databases or []):
        return []
    try:
        refuse_other_settings()
    except SettingChangedError as error:
        return [Error(str(error), id="usage.E001")]
    return []


@register(Tags.database)
def time_zone_is_understood(databases: Sequence[str] | None, **_kwargs: Any) -> list[CheckMessage]:
    """An error stops the first migrate; a database that has its days cut so goes on."""
    if "default" not in (databases or []):
        return []
    try:
        refuse_misread_time_zone()
    except TimeZoneMisreadError as error:
        if stored_time_zone() is None:
            return [Error(str(error), id="usage.E002")]
        return [Warning(str(error), id="usage.W003")]
    return []
