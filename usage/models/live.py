"""Live totals of named subscriptions, from a function of the database.

The view usage_daily_live has the same rows, but PostgreSQL takes longer to plan it than to read
the few rows of one subscription.
"""

from collections.abc import Sequence
from copy import copy
from datetime import date
from typing import Any, Self

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Expression
from django.db.models.sql.compiler import SQLCompiler
from django.db.models.sql.datastructures import BaseTable

from usage.models.daily import LiveDailyUsage

IDS = "%s::bigint[]"
CONDITIONS = {
    "subscription_ids": "id = ANY(%s)",
    "external_ids": "external_id = ANY(%s)",
    "owner": "owner_id = %s",
}


class LiveTable(BaseTable):
    """The FROM item of a queryset over LiveDailyUsage: the function, with the name of the view.

    It returns the rows of the days, both included, and of the subscriptions that satisfy every
    condition. A value may be an Expression: it goes into the parameters unchanged.
    """

    def __init__(
        self,
        *,
        subscription_ids: Sequence[int] | Expression | None,
        external_ids: Sequence[str] | Expression | None,
        owner: int | Expression | None = None,
        first_day: date | Expression,
        last_day: date | Expression,
    ) -> None:
        super().__init__(LiveDailyUsage._meta.db_table, None)
        conditions = {
            name: value if isinstance(value, int | Expression) else list(value)
            for name, value in {
                "subscription_ids": subscription_ids,
                "external_ids": external_ids,
                "owner": owner,
            }.items()
            if value is not None
        }
        self.ids = IDS
        if set(conditions) != {"subscription_ids"}:
            where = " AND ".join(CONDITIONS[name] for name in conditions)
            self.ids = f"ARRAY(SELECT id FROM usage_subscription WHERE {where})"  # noqa: S608
        self.arguments = (*conditions.values(), first_day, last_day)

    def as_sql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper
    ) -> tuple[str, tuple[Any, ...]]:
        name = compiler.quote_name_unless_alias(self.table_alias or self.table_name)
        return f"usage_daily_live_of({self.ids}, %s, %s) AS {name}", self.arguments

    def relabeled_clone(self, change_map: dict[str | None, str]) -> Self:
        clone = copy(self)
        clone.table_alias = change_map.get(self.table_alias, self.table_alias)
        return clone
