"""Raw records behind a daily total, and subscriptions."""

from datetime import date

from django.db.models import Expression, F, QuerySet

from usage.errors import RecordsDroppedError
from usage.models import RECORD_MODELS, Subscription, UsageType
from usage.selectors.expressions import Rows, UsageDay, UsageDayEnd, UsageDayStart


def refuse_dropped_day(*, day: date, kept_from: date | None) -> None:
    """Raise RecordsDroppedError for a day before kept_from, the first day with kept records."""
    if kept_from is not None and day < kept_from:
        raise RecordsDroppedError(
            f"The raw records of {day} are dropped: {kept_from} is the first day whose records are "
            "kept. The daily total of the day stays."
        )


def day_records(
    *, subscription_id: int | Expression, usage_type: UsageType, day: date | Expression
) -> Rows:
    """Return the raw records of one daily total: id, usage_date, price and quantity.

    The bounds on usage_date only let PostgreSQL skip partitions; usage_day decides.
    """
    model = RECORD_MODELS[usage_type]
    return (
        model.objects.alias(day=UsageDay("usage_date"))
        .filter(
            subscription_id=subscription_id,
            usage_date__gte=UsageDayStart(day),
            usage_date__lt=UsageDayEnd(day),
            day=day,
        )
        .values("id", "usage_date", "price", quantity=F(model.quantity_column))
    )


def owned_by(*, rows: Rows, owner: int | Expression) -> Rows:
    """Filter rows with a subscription_id by the subscriptions that this user owns."""
    owned = Subscription.objects.filter(owner=owner).values("id")
    return rows.filter(subscription_id__in=owned)


def subscription_rows(*, subscriptions: QuerySet[Subscription]) -> Rows:
    """Return subscription_id, external_id and created_at of the subscriptions."""
    return subscriptions.annotate(subscription_id=F("id")).values(
        "subscription_id", "external_id", "created_at"
    )
