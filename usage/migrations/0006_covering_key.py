"""A covering primary key: sealed days of a subscription are read from its index alone."""

from django.db import migrations

from usage.sql.migration_operations import SQLObject

PLAIN_KEY = """
    LOCK TABLE usage_refresh_lock IN SHARE UPDATE EXCLUSIVE MODE;
    ALTER TABLE usage_daily_sealed
    DROP CONSTRAINT usage_daily_sealed_pkey,
    ADD CONSTRAINT usage_daily_sealed_pkey PRIMARY KEY (subscription_id, day, usage_type)
"""


class Migration(migrations.Migration):
    dependencies = [("usage", "0005_period_totals")]

    operations = [SQLObject("usage_daily_sealed_pkey", to=1, drop=PLAIN_KEY)]
