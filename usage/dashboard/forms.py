"""Forms that check the query parameters of pages: the bounds of the API, and the longest range."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator

from usage.lists.bounds import IDS, LONGEST_EXTERNAL_ID, PRICE_DECIMALS, PRICE_DIGITS
from usage.models import UsageType
from usage.selectors import FIRST_DAY, LAST_DAY, whole_period

# A page about everybody reads each day whole: 200,000 totals a day at 100,000 subscriptions.
MOST_DAYS = 92
MOST_DAYS_OF_ONE = 366


class DayField(forms.DateField):
    """A whole day in the time zone of the deployment."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            input_formats=["%Y-%m-%d"],
            error_messages={"invalid": "Give a day as YYYY-MM-DD."},
            validators=[
                MinValueValidator(FIRST_DAY, f"The first day is {FIRST_DAY}."),
                MaxValueValidator(LAST_DAY, f"The last day is {LAST_DAY}."),
            ],
            widget=forms.DateInput(
                format="%Y-%m-%d", attrs={"type": "date", "min": FIRST_DAY, "max": LAST_DAY}
            ),
            **options,
        )


class DaysForm(forms.Form):
    """Whole days, both included, of one usage type or of all."""

    from_date = DayField(label="From", required=False)
    to_date = DayField(label="To", required=False)
    usage_type = forms.ChoiceField(
        label="Type", choices=[("", "All types"), *UsageType.choices], required=False
    )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        first, last = cleaned.get("from_date"), cleaned.get("to_date")
        if first and last and first > last:
            self.add_error("from_date", f"This is after {last}, the last day.")
        return cleaned

    def refuse_long_range(self, first: date, last: date, most: int, instead: str) -> None:
        """Add an error when there are more days than a page reads."""
        days = (last - first) // timedelta(days=1) + 1
        if days > most:
            self.add_error(
                "from_date", f"These are {days} days, and a page has at most {most}. {instead}"
            )


class UsageForm(DaysForm):
    """Usage by day, of everybody or of one subscription."""

    subscription = forms.CharField(
        label="Subscription",
        required=False,
        max_length=LONGEST_EXTERNAL_ID,
        widget=forms.TextInput(attrs={"placeholder": "all, or an external id"}),
    )
    field_order = ["from_date", "to_date", "subscription", "usage_type"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        first, last = cleaned.get("from_date"), cleaned.get("to_date")
        for name in ("from_date", "to_date"):
            if name not in self.errors and not cleaned.get(name):
                self.add_error(name, "Give the day.")
        if first and last:
            if cleaned.get("subscription"):
                self.refuse_long_range(first, last, MOST_DAYS_OF_ONE, "Choose fewer.")
            else:
                self.refuse_long_range(
                    first, last, MOST_DAYS, "Choose fewer, or name a subscription."
                )
        return cleaned


class OverLimitForm(DaysForm):
    """Subscriptions that reached a price limit in the days; without dates, in all days."""

    price_limit = forms.DecimalField(
        label="Price limit",
        min_value=Decimal(0),
        max_digits=PRICE_DIGITS + PRICE_DECIMALS,
        decimal_places=PRICE_DECIMALS,
        widget=forms.NumberInput(
            attrs={"step": "any", "min": "0", "placeholder": "for example 150"}
        ),
    )
    # The last row of the page before: its total and subscription. Empty for the first page.
    after_price = forms.DecimalField(
        required=False, max_digits=60, decimal_places=PRICE_DECIMALS, widget=forms.HiddenInput
    )
    after_subscription = forms.IntegerField(
        required=False, min_value=0, max_value=IDS.most, widget=forms.HiddenInput
    )
    field_order = ["price_limit", "from_date", "to_date", "usage_type"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if self.errors:
            return cleaned
        first, last = cleaned.get("from_date"), cleaned.get("to_date")
        if (first is None) != (last is None):
            missing = "from_date" if first is None else "to_date"
            self.add_error(missing, "Give both days, or none for all days.")
        elif first and last and whole_period(first, last) is None:
            self.refuse_long_range(
                first, last, MOST_DAYS, "Choose fewer, a whole month or all days."
            )
        return cleaned
