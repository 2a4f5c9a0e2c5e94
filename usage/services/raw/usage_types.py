"""The comparison of the usage types of this release with the table usage_type.

A restore of some tables may leave its rows out. The checks of triggers, sequences and search paths
read the table, so without its rows they find no fault.
"""

from dataclasses import astuple, dataclass, fields

from django.db import connection

from usage.sql import TypeInSQL
from usage.sql.capture import types_of_this_release
from usage.sql.migration_operations import stored_types


@dataclass(frozen=True)
class Difference:
    """A usage type that differs between this release and the database; None where it is missing."""

    name: str
    released: TypeInSQL | None
    stored: TypeInSQL | None
    raw_table_exists: bool

    def __str__(self) -> str:
        return (
            f"The usage type {self.name} is not the same in this release ({self.released}) and in "
            f"the table usage_type ({self.stored})."
        )

    @property
    def step(self) -> str:
        """The step that makes them the same."""
        if self.released is not None and self.stored is None and self.raw_table_exists:
            row = ", ".join("'" + each.replace("'", "''") + "'" for each in astuple(self.released))
            columns = ", ".join(each.name for each in fields(self.released))
            return f"INSERT INTO usage_type ({columns}) VALUES ({row});"  # noqa: S608 - our names
        return "manage.py migrate. A type needs a migration with AddUsageType."


def differences() -> list[Difference]:
    """Return the usage types that differ, by name; none before the table is migrated."""
    if (listed := stored_types(connection)) is None:
        return []
    stored = {each.usage_type: each for each in listed}
    released = {each.usage_type: each for each in types_of_this_release()}
    return [
        Difference(name, released.get(name), stored.get(name), _exists(released.get(name)))
        for name in sorted(stored.keys() | released.keys())
        if stored.get(name) != released.get(name)
    ]


def _exists(usage_type: TypeInSQL | None) -> bool:
    if usage_type is None:
        return False
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [usage_type.raw_table])
        (exists,) = cursor.fetchone()
    return exists
