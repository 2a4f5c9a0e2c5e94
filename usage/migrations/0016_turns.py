"""Tables of turns, for imports and for the rebuild of indexes. Each locks a row during its turn,
which only writers of usage can."""

from django.db import migrations

from usage.sql.migration_operations import SQLObject


class Migration(migrations.Migration):
    dependencies = [("usage", "0015_reached_day")]

    operations = [
        SQLObject("usage_import_turn", to=1, drop="DROP TABLE usage_import_turn"),
        SQLObject("usage_index_care", to=1, drop="DROP TABLE usage_index_care"),
    ]
