"""Checks of `manage.py check`: of the database with `--database default`, of the proxies with
`--deploy`."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import ProgrammingError

from usage.database import lock_room
from usage.database.errors import INSUFFICIENT_PRIVILEGE, NOT_MIGRATED, sqlstate
from usage.database.roles import missing_grants, public_functions, unlimited_analysts
from usage.database.startup import (
    captures_as_this_release,
    refuse_misread_time_zone,
    refuse_other_encodings,
    refuse_other_settings,
    stored_time_zone,
)
from usage.errors import EncodingError, SettingChangedError, TimeZoneMisreadError
from usage.models import RAW_TABLES, RECORD_MODELS, UsageRecord, UsageType
from usage.monitoring.proxies import uncounted_proxy
from usage.services.capture import sequences, triggers
from usage.services.raw import usage_types
from usage.services.raw.partitions import most_partitions, partition_days
from usage.services.raw.zone_data import differences_in_kept_days
from usage.services.totals.placement import search_path_statements


def database_check(find: Callable[[], Iterator[CheckMessage]]) -> Callable[..., list[CheckMessage]]:
    """Register a check of the database, which runs with `--database default`.

    It finds nothing while a migration is pending that makes what it reads, or for a role that may
    not read it: `migrate` runs the checks first.
    """

    @register(Tags.database)
    def check(databases: Sequence[str] | None = None, **_kwargs: Any) -> list[CheckMessage]:
        if "default" not in (databases or []):
            return []
        try:
            return list(find())
        except ProgrammingError as error:
            if sqlstate(error) in {*NOT_MIGRATED, INSUFFICIENT_PRIVILEGE}:
                return []
            raise

    return check


@database_check
def roles_have_their_privileges() -> Iterator[CheckMessage]:
    for role, grants in groupby(missing_grants(), key=lambda grant: grant.role):
        missing = list(grants)
        exists = missing[0].role_exists
        relations = ", ".join(sorted({name for grant in missing for name in grant.relations}))
        statements = [] if exists else [f"CREATE ROLE {role} NOLOGIN"]
        statements += map(str, missing)
        yield Warning(
            f"The role {role} {'lacks privileges on' if exists else 'is missing for'} {relations}.",
            hint=f"Run: {'; '.join(statements)};",
            id="usage.W001",
        )


@database_check
def functions_are_their_owners() -> Iterator[CheckMessage]:
    for statement in public_functions():
        yield Warning(
            "Everybody may run a function that only its owner should.",
            hint=f"Run: {statement}; or: manage.py migrate",
            id="usage.W009",
        )


@database_check
def restore_is_complete() -> Iterator[CheckMessage]:
    """Return warnings only: an error would keep `migrate` from running on a restored database."""
    for statement in search_path_statements():
        yield Warning(
            "The triggers on the raw tables log late keys in another schema than theirs.",
            hint=f"Run: {statement}; then: manage.py verify_usage --repair",
            id="usage.W010",
        )
    for sequence, day in sequences.behind().items():
        yield Warning(
            f"{sequence} has not reached {day}, the value in usage_state.",
            hint="A restore left the sequence behind. Run: manage.py check_restore",
            id="usage.W011",
        )


@register(Tags.models)
def every_usage_type_has_a_raw_table(**_kwargs: Any) -> list[CheckMessage]:
    hint = "Add the type and its record model to RECORD_MODELS in usage/models/records.py."
    found: list[CheckMessage] = [
        Error(f"The usage type {code.value} has no raw table.", hint=hint, id="usage.E005")
        for code in UsageType
        if code not in RECORD_MODELS
    ]
    found += [
        Error(
            f"The raw table {model._meta.db_table} has no usage type.", hint=hint, id="usage.E005"
        )
        for model in apps.get_models()
        if issubclass(model, UsageRecord) and model not in RECORD_MODELS.values()
    ]
    return found


@database_check
def database_has_the_usage_types_of_this_release() -> Iterator[CheckMessage]:
    for difference in usage_types.differences():
        yield Warning(str(difference), hint=f"Run: {difference.step}", id="usage.W012")


@database_check
def analysts_have_a_time_limit() -> Iterator[CheckMessage]:
    for statement in unlimited_analysts():
        yield Warning(
            "The statements of an analyst have no time limit.",
            hint=f"Run: {statement};",
            id="usage.W002",
        )


@database_check
def partitions_leave_room_for_locks() -> Iterator[CheckMessage]:
    if stored_time_zone() is None:
        return
    room = lock_room.read()
    if room.is_short:
        yield Warning(
            f"There are many partitions: {room}.", hint=f"{room.advice}.", id="usage.W008"
        )
    most = most_partitions()
    for table in RAW_TABLES:
        if (count := len(partition_days(table))) > most:
            yield Warning(
                f"{table} has {count} partitions, and the settings make {most} at most.",
                hint="Run manage.py prune_usage: it drops partitions of days that are not kept "
                "and empty ones far ahead. Without a retention each day adds a partition: set "
                "USAGE_RAW_RETENTION_DAYS.",
                id="usage.W005",
            )


@database_check
def settings_are_kept() -> Iterator[CheckMessage]:
    try:
        refuse_other_settings()
    except SettingChangedError as error:
        yield Error(str(error), id="usage.E001")


@database_check
def late_records_are_captured() -> Iterator[CheckMessage]:
    """Check only a database whose migrations have made the triggers of this release."""
    if not captures_as_this_release():
        return
    for fault in triggers.faults():
        yield Error(
            f"Found: {fault}: changes of sealed days are not captured.",
            hint="Run: manage.py enable_triggers",
            id="usage.E003",
        )


@database_check
def time_zone_is_understood() -> Iterator[CheckMessage]:
    """Return an error before the first migrate; later a warning, since days are cut already."""
    try:
        refuse_misread_time_zone()
    except TimeZoneMisreadError as error:
        if stored_time_zone() is None:
            yield Error(str(error), id="usage.E002")
        else:
            yield Warning(str(error), id="usage.W003")


@register(Tags.security, deploy=True)
def proxies_are_counted(**_kwargs: Any) -> list[CheckMessage]:
    if (proxy := uncounted_proxy()) is None:
        return []
    return [
        Warning(
            f"Requests with X-Forwarded-For came from {proxy} within the last day and "
            "DJANGO_PROXIES is 0: all clients of that proxy share its limits, and ten wrong "
            "passwords of one client lock everybody out.",
            hint="Set DJANGO_PROXIES to the number of your proxies that a request passes.",
            id="usage.W004",
        )
    ]


@database_check
def zone_data_agrees() -> Iterator[CheckMessage]:
    """Compare the zone data of PostgreSQL, which cuts the days, with that of Python."""
    if stored_time_zone() is None:
        return
    for difference in differences_in_kept_days():
        yield Warning(
            f"The zone data of PostgreSQL and of Python differ: {difference}.",
            hint="No record is lost, but one of the two is old. Update both to the newest release "
            "of the zone data. If PostgreSQL's changed, rebuild the days from the difference on: "
            "manage.py rebuild_usage.",
            id="usage.W006",
        )


@database_check
def encoding_is_utf8() -> Iterator[CheckMessage]:
    """Return an error before the first migrate; later a warning, since the database is in use."""
    try:
        refuse_other_encodings()
    except EncodingError as error:
        if stored_time_zone() is None:
            yield Error(str(error), id="usage.E004")
        else:
            yield Warning(str(error), id="usage.W007")
