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
IDS_OF_EXTERNAL_IDS = "ARRAY(SELECT id FROM usage_subscription WHERE external_id = ANY(%s))"


class LiveTable(BaseTable):
    """What a queryset over LiveDailyUsage writes behind FROM: the function, named as the view.

    Its rows are those of the subscriptions and days given, both days included; of subscription_ids
    when external_ids are given as well. An Expression that stands for a value goes into the
    parameters as it is.
    """

    def __init__(
        self,
        *,
        subscription_ids: Sequence[int] | Expression | None,
        external_ids: Sequence[str] | Expression | None,
        first_day: date | Expression,
        last_day: date | Expression,
    ) -> None:
        super().__init__(LiveDailyUsage._meta.db_table, None)
        self.ids = IDS_OF_EXTERNAL_IDS if subscription_ids is None else IDS
        names = external_ids if subscription_ids is None else subscription_ids
        given = names if isinstance(names, Expression) else list(names or [])
        self.arguments = (given, first_day, last_day)

    def as_sql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper
    ) -> tuple[str, tuple[Any, ...]]:
        name = compiler.quote_name_unless_alias(self.table_alias or self.table_name)
        return f"usage_daily_live_of({self.ids}, %s, %s) AS {name}", self.arguments

    def relabeled_clone(self, change_map: dict[str | None, str]) -> Self:
        clone = copy(self)
        clone.table_alias = change_map.get(self.table_alias, self.table_alias)
        return clone
