"""Figures as people read them: every digit, with commas between thousands."""

from decimal import Decimal

from django import template

from usage.dashboard.charts import colour_of
from usage.models import UsageType
from usage.notation import amount_text

register = template.Library()


@register.filter
def figure(number: Decimal | int | None) -> str:
    """Return the exact number in plain notation, such as 34,991.905, and a dash for None."""
    if number is None:
        return "–"  # noqa: RUF001
    if isinstance(number, int):
        return f"{number:,}"
    whole, point, fraction = amount_text(number).partition(".")
    return f"{Decimal(whole):,}{point}{fraction}"


@register.filter
def type_label(usage_type: str) -> str:
    """Return the name of a usage type, or its code if this release does not know it."""
    known = _known(usage_type)
    return known.label if known else usage_type


@register.filter
def type_colour(usage_type: str) -> str:
    """Return the name of the colour of a usage type."""
    known = _known(usage_type)
    return colour_of(known) if known else ""


@register.filter
def type_unit(usage_type: str) -> str:
    """Return the unit of a usage type."""
    known = _known(usage_type)
    return known.unit if known else ""


def _known(usage_type: str) -> UsageType | None:
    """Return the usage type, or None for one of another release, as after a rollback."""
    return UsageType(usage_type) if usage_type in UsageType.values else None
