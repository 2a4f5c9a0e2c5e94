"""Figures as people read them: every digit, with commas between thousands."""

from decimal import Decimal

from django import template

from usage.models import UsageType

register = template.Library()


@register.filter
def figure(number: Decimal | int | None) -> str:
    """The exact number in plain notation, as 34,991.9050; a dash for none."""
    if number is None:
        return "–"  # noqa: RUF001
    return f"{number:,f}" if isinstance(number, Decimal) else f"{number:,}"


@register.filter
def type_label(usage_type: str) -> str:
    """The name of a usage type."""
    return UsageType(usage_type).label


@register.filter
def type_unit(usage_type: str) -> str:
    """The unit of a usage type."""
    return UsageType(usage_type).unit
