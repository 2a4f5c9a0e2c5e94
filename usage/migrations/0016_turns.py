"""Imports and the care of indexes take turns by tables that only writers of usage can lock."""

from django.db import migrations

from usage.sql.migration_operations import SQLObject


class Migration(migrations.Migration):
    dependencies = [("usage", "0015_reached_day")]

    operations = [
        SQLObject("usage_import_turn", to=1, drop="DROP TABLE usage_import_turn"),
        SQLObject("usage_index_care", to=1, drop="DROP TABLE usage_index_care"),
    ]
