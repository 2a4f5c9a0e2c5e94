"""Totals from sealed and open days, and live totals.

This is a migration of its own, since the locks of the previous one must not be held while the
materialized view is filled.
"""

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

from usage.sql.migration_operations import MaterializedViewUnderView, SQLObject


def refuse_to_lose_totals(_apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Refuse to go back after raw records were dropped: their sealed totals could not be restored."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT raw_kept_from FROM usage_state WHERE raw_kept_from IS NOT NULL")
        if row := cursor.fetchone():
            raise RuntimeError(
                f"Raw records before {row[0]} are dropped: going back would lose their totals. "
                "Save them first: \\copy usage_daily_sealed TO 'sealed.csv' CSV HEADER"
            )


class Migration(migrations.Migration):
    dependencies = [("usage", "0003_sealed_days")]

    operations = [
        MaterializedViewUnderView(
            "usage_daily_open", to=2, index="usage_daily_open_key", view="usage_daily", view_to=2
        ),
        SQLObject(
            "usage_totals_of_days", to=1, drop="DROP FUNCTION usage_totals_of_days(date, date)"
        ),
        SQLObject(
            "usage_totals_of_key",
            to=1,
            drop="DROP FUNCTION usage_totals_of_key(bigint, date, text)",
        ),
        SQLObject("usage_daily_live", to=1, drop="DROP VIEW usage_daily_live"),
        SQLObject(
            "usage_daily_live_of",
            to=1,
            drop="DROP FUNCTION usage_daily_live_of(bigint[], date, date)",
        ),
        migrations.RunPython(migrations.RunPython.noop, refuse_to_lose_totals),
    ]
