"""Where live totals of named subscriptions come from: a function of the database.

The view usage_daily_live has the same rows, but planning it takes longer than reading the few of
one subscription.
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
    """What a queryset over LiveDailyUsage writes behind FROM: the function, named as the view.

    Its rows are those of the days given, both included, and of the subscriptions that every
    condition given is true of. An Expression that stands for a value goes into the parameters as
    it is.
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
        given = {
            name: value if isinstance(value, int | Expression) else list(value)
            for name, value in {
                "subscription_ids": subscription_ids,
                "external_ids": external_ids,
                "owner": owner,
            }.items()
            if value is not None
        }
        self.ids = IDS
        if set(given) != {"subscription_ids"}:
            conditions = " AND ".join(CONDITIONS[name] for name in given)
            self.ids = f"ARRAY(SELECT id FROM usage_subscription WHERE {conditions})"  # noqa: S608
        self.arguments = (*given.values(), first_day, last_day)

    def as_sql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper
    ) -> tuple[str, tuple[Any, ...]]:
        name = compiler.quote_name_unless_alias(self.table_alias or self.table_name)
        return f"usage_daily_live_of({self.ids}, %s, %s) AS {name}", self.arguments

    def relabeled_clone(self, change_map: dict[str | None, str]) -> Self:
        clone = copy(self)
        clone.table_alias = change_map.get(self.table_alias, self.table_alias)
        return clone
