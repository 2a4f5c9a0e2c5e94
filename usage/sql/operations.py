"""The one migration operation that brings a SQL file into the database and takes it out."""

from collections.abc import Sequence

from django.db import migrations
from django.db.migrations.operations.base import Operation

from usage import sql


class SQLObject(migrations.RunSQL):
    """Go to one version of a SQL object, and back to the version before it.

    `drop` is the statement that removes the object, whichever version it is; never CASCADE, so
    that a dependent object stops the migration and is named by the server.
    """

    def __init__(
        self,
        name: str,
        *,
        to: int,
        back_to: int | None = None,
        drop: str,
        state_operations: Sequence[Operation] | None = None,
    ) -> None:
        forward = sql.read(name, to)
        super().__init__(
            sql=forward if back_to is None else f"{drop};\n{forward}",
            reverse_sql=drop if back_to is None else f"{drop};\n{sql.read(name, back_to)}",
            state_operations=state_operations,
            elidable=False,
        )
        self.object_name, self.to, self.back_to = name, to, back_to

    def describe(self) -> str:
        return f"Apply {self.object_name} version {self.to}"
