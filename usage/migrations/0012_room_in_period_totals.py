"""Build the period totals with room for what each refresh changes."""

from django.db import migrations

from usage.sql.operations import SQLObject

NO_ROOM = """
    ALTER TABLE usage_period_total RESET (fillfactor);
    ALTER INDEX usage_period_total_pkey RESET (fillfactor);
    ALTER INDEX usage_period_total_price RESET (fillfactor);
    ALTER INDEX usage_period_total_largest RESET (fillfactor)
"""


class Migration(migrations.Migration):
    dependencies = [("usage", "0011_late_keys")]

    operations = [SQLObject("usage_period_total_room", to=1, drop=NO_ROOM)]
