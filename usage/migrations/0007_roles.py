"""Roles for the web server and for writers, and views of months and freshness for analysts.

usage/database/roles.py grants privileges to the roles after every migrate.
"""

from django.db import migrations

from usage.sql.migration_operations import SQLObject


class Migration(migrations.Migration):
    dependencies = [("usage", "0006_covering_key")]

    operations = [
        # Roles belong to the server: another database may use these, so going back keeps them.
        SQLObject("usage_analyst", to=2, back_to=1, drop="SELECT 1"),
        SQLObject("usage_writer", to=1, drop="SELECT 1"),
        SQLObject("usage_web", to=1, drop="SELECT 1"),
        SQLObject("usage_monthly", to=1, drop="DROP VIEW usage_monthly"),
        SQLObject("usage_freshness", to=1, drop="DROP VIEW usage_freshness"),
    ]
