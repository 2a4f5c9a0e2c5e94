"""Raw usage records, as the network reported them."""

import uuid
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, ClassVar, Self

from django.contrib.postgres.functions import RandomUUID
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import connections, models, router, transaction

from usage.errors import UnknownSubscriptionError
from usage.models.subscriptions import Subscription

# With this bound, two billion records of one subscription, day and type still fit a bigint sum.
MOST_QUANTITY = 2**32


def quantity_field() -> models.BigIntegerField:
    """Return the field for kilobytes or seconds of one record. The database checks the same
    bounds."""
    return models.BigIntegerField(
        validators=[MinValueValidator(0), MaxValueValidator(MOST_QUANTITY)]
    )


class UsageType(models.TextChoices):
    """The kind of usage."""

    # The code that relations hold, the unit of a quantity, and the label. RECORD_MODELS has the raw
    # table of each. The published description of the API has the docstring.
    DATA = "data", "kilobytes", "Data"
    VOICE = "voice", "seconds", "Voice"

    unit: str

    def __new__(cls, code: str, unit: str = "") -> Self:
        if not unit:
            raise ValueError(f"The usage type {code} has no unit: write code, unit and label.")
        usage_type = str.__new__(cls, code)
        usage_type._value_ = code
        usage_type.unit = unit
        return usage_type


def lock_subscriptions(subscription_ids: Iterable[int], using: str) -> None:
    """Lock these subscriptions, so that nobody deletes them before the transaction ends.

    FOR KEY SHARE, the lock of a foreign key, lets writers of the same subscription pass.
    Raises UnknownSubscriptionError for ids that don't exist.
    """
    to_id = Subscription._meta.pk.to_python
    wanted = {to_id(pk) for pk in subscription_ids if pk is not None}
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT id FROM usage_subscription WHERE id = ANY(%s) FOR KEY SHARE", [list(wanted)]
        )
        found = {pk for (pk,) in cursor}
    if missing := sorted(wanted - found):
        raise UnknownSubscriptionError(
            f"No subscription has the id {', '.join(map(str, missing[:10]))}"
            f"{' ...' if len(missing) > 10 else ''}. Make the subscription first."
        )


class UsageRecordQuerySet(models.QuerySet):
    """A queryset whose writes check that the subscriptions exist. No foreign key checks that."""

    def bulk_create(self, objs: Iterable[Any], *args: Any, **kwargs: Any) -> list[Any]:
        records = list(objs)
        with transaction.atomic(using=self.db):
            lock_subscriptions((record.subscription_id for record in records), self.db)
            return super().bulk_create(records, *args, **kwargs)

    def update(self, **kwargs: Any) -> int:
        moved_to = kwargs.get("subscription", kwargs.get("subscription_id"))
        if moved_to is None:
            return super().update(**kwargs)
        if hasattr(moved_to, "resolve_expression"):
            raise TypeError("Name the subscription or its id: an expression can't be locked.")
        with transaction.atomic(using=self.db):
            lock_subscriptions([getattr(moved_to, "pk", moved_to)], self.db)
            return super().update(**kwargs)


class UsageRecord(models.Model):
    """Columns of every raw table. `quantity_column` names the column that a total adds up."""

    quantity_column: ClassVar[str]

    pk = models.CompositePrimaryKey("subscription_id", "usage_date", "id")
    id = models.UUIDField(default=uuid.uuid4, db_default=RandomUUID())
    subscription = models.ForeignKey(
        Subscription, on_delete=models.PROTECT, db_constraint=False, db_index=False
    )
    usage_date = models.DateTimeField()
    price = models.DecimalField(max_digits=20, decimal_places=8, default=Decimal(0), db_default=0)

    objects = UsageRecordQuerySet.as_manager()

    _stored_pk: tuple[Any, ...] | None = None

    class Meta:
        abstract = True

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Self:
        record = super().from_db(*args, **kwargs)
        record._stored_pk = record.pk
        return record

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store the record. If its subscription, moment or id was changed, move the stored row.

        Django alone would leave the old row and store a second one.
        """
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        is_copy = self._state.adding or kwargs.get("force_insert")
        with transaction.atomic(using=using):
            lock_subscriptions([self.subscription_id], using)
            if not is_copy and self._stored_pk not in (None, self.pk):
                type(self)._base_manager.using(using).filter(pk=self._stored_pk).update(
                    subscription_id=self.subscription_id, usage_date=self.usage_date, id=self.id
                )
            super().save(*args, **kwargs)
        self._stored_pk = self.pk


class DataUsageRecord(UsageRecord):
    """Data used by a subscription, in kilobytes."""

    quantity_column = "kilobytes_used"

    kilobytes_used = quantity_field()

    class Meta:
        db_table = "usage_datausagerecord"


class VoiceUsageRecord(UsageRecord):
    """A call made by a subscription, in seconds."""

    quantity_column = "seconds_used"

    seconds_used = quantity_field()

    class Meta:
        db_table = "usage_voiceusagerecord"


# Where the raw records of each usage type lie. Everything that differs by type derives from this.
RECORD_MODELS: dict[UsageType, type[UsageRecord]] = {
    UsageType.DATA: DataUsageRecord,
    UsageType.VOICE: VoiceUsageRecord,
}
RAW_TABLES = [model._meta.db_table for model in RECORD_MODELS.values()]
