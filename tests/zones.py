"""Functions that cut days in another zone than that of the test database."""

from django.db import connection

from usage import sql


def cut_days_in(zone: str) -> None:
    """Create the functions of the SQL files for a zone, in a schema that is rolled back."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA IF NOT EXISTS scratch")
        cursor.execute("SET LOCAL search_path TO scratch, public")
        cursor.execute("SELECT set_config('usage.time_zone', %s, true)", [zone])
        for name in ["usage_day", "usage_day_start", "usage_day_end"]:
            cursor.execute(sql.read(name, 1))
