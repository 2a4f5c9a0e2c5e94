"""Daily totals, computed by the refresh. Django reads them and never writes them."""

from collections.abc import Sequence
from datetime import date
from typing import Any, NoReturn

from django.db import models

from usage.errors import ReadOnlyModelError
from usage.models.records import UsageType
from usage.models.subscriptions import Subscription


def _refuse(*_args: Any, **_kwargs: Any) -> NoReturn:
    raise ReadOnlyModelError


class ReadOnlyQuerySet(models.QuerySet):
    create = bulk_create = update = bulk_update = delete = _delete = _raw_delete = _refuse
    get_or_create = update_or_create = _insert = _update = _refuse


class UsageTypeField(models.TextField):
    """The code of a usage type. Migrations see no choices, so a new type changes no model there."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "choices": UsageType.choices})

    def deconstruct(self) -> tuple[str, str, Sequence[Any], dict[str, Any]]:
        name, _, args, kwargs = super().deconstruct()
        del kwargs["choices"]
        return name, "django.db.models.TextField", args, kwargs


class DailyKey(models.Model):
    """The key of totals, without the day or period."""

    subscription = models.ForeignKey(
        Subscription, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+"
    )
    usage_type = UsageTypeField()

    objects = ReadOnlyQuerySet.as_manager()

    class Meta:
        abstract = True

    save = delete = save_base = _refuse


class Totals(DailyKey):
    total_price = models.DecimalField(max_digits=1000, decimal_places=8)
    total_usage = models.BigIntegerField()
    record_count = models.BigIntegerField()

    class Meta:
        abstract = True


class DailyTotals(Totals):
    """Columns of every daily relation; the grain is subscription, day and usage type."""

    pk = models.CompositePrimaryKey("subscription_id", "day", "usage_type")
    day = models.DateField()
    last_usage_at = models.DateTimeField()

    class Meta:
        abstract = True


class OpenDailyUsage(DailyTotals):
    """Totals of the open days: the materialized view that each refresh refreshes."""

    always_null = models.BooleanField(null=True)

    class Meta:
        managed = False
        db_table = "usage_daily_open"


class SealedDailyUsage(DailyTotals):
    """Totals of the sealed days: written once, then changed only by repairs and rebuilds."""

    class Meta:
        managed = False
        db_table = "usage_daily_sealed"


class DailyUsage(DailyTotals):
    """Totals of all days, as of UsageState.as_of: the view that readers use."""

    class Meta:
        managed = False
        db_table = "usage_daily"


class LiveDailyUsage(DailyTotals):
    """Totals of all days, exact at the moment of the query. Filter by subscription, since the view
    reads raw records."""

    class Meta:
        managed = False
        db_table = "usage_daily_live"


class PeriodTotal(Totals):
    """The sum of the daily totals of a month, or of all days, of one subscription and type."""

    ALL_DAYS = date.min

    pk = models.CompositePrimaryKey("subscription_id", "period", "usage_type")
    period = models.DateField()
    is_largest = models.BooleanField()

    class Meta:
        managed = False
        db_table = "usage_period_total"


class LateKey(DailyKey):
    """A key whose raw records changed after its day was over; a refresh repairs and deletes it."""

    pk = models.CompositePrimaryKey("subscription_id", "day", "usage_type")
    day = models.DateField()

    class Meta:
        managed = False
        db_table = "usage_late_key"
