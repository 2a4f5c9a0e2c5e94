"""Roles for the web server and for writers, and what analysts read about months and freshness.

What the roles may do is granted after every migrate: usage/services/roles.py.
"""

from django.db import migrations

from usage.sql.migration_operations import SQLObject


class Migration(migrations.Migration):
    dependencies = [("usage", "0006_covering_key")]

    operations = [
        # Roles belong to the server: another database may use these, so they stay.
        SQLObject("usage_analyst", to=2, back_to=1, drop="SELECT 1"),
        SQLObject("usage_writer", to=1, drop="SELECT 1"),
        SQLObject("usage_web", to=1, drop="SELECT 1"),
        SQLObject("usage_monthly", to=1, drop="DROP VIEW usage_monthly"),
        SQLObject("usage_freshness", to=1, drop="DROP VIEW usage_freshness"),
    ]
