"""Every query of the totals, as querysets.

A query takes its daily totals as `daily`: refreshed_daily or live_daily, already filtered by days,
types and subscriptions. Money is Decimal in the currency of the deployment. Quantities are
in the unit of their usage type.

Each value may be an Expression instead, so that one queryset serves many values.
"""

from usage.selectors.daily import (
    EXACT,
    FIRST_DAY,
    LAST_DAY,
    DailySource,
    daily_rows,
    day_totals,
    exceeded,
    live_daily,
    over_limit,
    refreshed_daily,
    type_totals,
)
from usage.selectors.expressions import Negative, Rows, UsageDay, UsageDayEnd, UsageDayStart
from usage.selectors.periods import (
    month_end,
    over_limit_in_period,
    period_totals,
    whole_period,
)
from usage.selectors.records import day_records, owned_by, refuse_dropped_day, subscription_rows
from usage.selectors.state import (
    RUN_COLUMNS,
    VERSION,
    Source,
    TotalsState,
    is_answered_live,
    late_keys,
    runs_newest_first,
    totals_state,
)

__all__ = [
    "EXACT",
    "FIRST_DAY",
    "LAST_DAY",
    "RUN_COLUMNS",
    "VERSION",
    "DailySource",
    "Negative",
    "Rows",
    "Source",
    "TotalsState",
    "UsageDay",
    "UsageDayEnd",
    "UsageDayStart",
    "daily_rows",
    "day_records",
    "day_totals",
    "exceeded",
    "is_answered_live",
    "late_keys",
    "live_daily",
    "month_end",
    "over_limit",
    "over_limit_in_period",
    "owned_by",
    "period_totals",
    "refreshed_daily",
    "refuse_dropped_day",
    "runs_newest_first",
    "subscription_rows",
    "totals_state",
    "type_totals",
    "whole_period",
]
