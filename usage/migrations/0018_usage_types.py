"""The usage types of the database are listed in a table, and a view has the records of all of them."""

from django.db import migrations, models

from usage.sql.migration_operations import LOCK_REFRESH, SQLObject, lock

MODELS = [
    "dailyusage",
    "latekey",
    "livedailyusage",
    "opendailyusage",
    "periodtotal",
    "sealeddailyusage",
]
LIST_TYPES = """
INSERT INTO usage_type (usage_type, label, unit, raw_table, quantity_column) VALUES
('data', 'Data', 'kilobytes', 'usage_datausagerecord', 'kilobytes_used'),
('voice', 'Voice', 'seconds', 'usage_voiceusagerecord', 'seconds_used')
"""
CHECKED = ["usage_daily_sealed", "usage_late_key", "usage_period_total"]
# The totals are computed for the types of the table alone, which is the check.
DROP_CHECKS = ";".join(
    f"ALTER TABLE {name} DROP CONSTRAINT {name}_usage_type_check" for name in CHECKED
)
# NOT VALID: no row is read under the lock, and no other type ever had a raw table.
ADD_CHECKS = ";".join(
    f"ALTER TABLE {name} ADD CONSTRAINT {name}_usage_type_check"
    " CHECK (usage_type IN ('data', 'voice')) NOT VALID"
    for name in CHECKED
)
DROP_KEEP_USED = (
    "DROP TRIGGER usage_subscription_keep_used ON usage_subscription;"
    " DROP FUNCTION usage_subscription_keep_used()"
)
# Writers lock a subscription before their raw table. The view brings all that it reads: readers of
# totals lock them in the same order.
LOCKED = lock("usage_subscription", "usage_daily_live", "usage_period_total")


class Migration(migrations.Migration):
    dependencies = [("usage", "0017_identity")]

    operations = [
        migrations.RunSQL(f"{LOCK_REFRESH}; {LOCKED}", migrations.RunSQL.noop),
        SQLObject("usage_type", to=1, drop="DROP TABLE usage_type"),
        migrations.RunSQL(LIST_TYPES, migrations.RunSQL.noop),
        SQLObject("usage_record", to=1, drop="DROP VIEW usage_record"),
        SQLObject(
            "usage_totals_of_key",
            to=2,
            back_to=1,
            drop="DROP FUNCTION usage_totals_of_key(bigint, date, text)",
        ),
        SQLObject("usage_daily_live", to=2, back_to=1, drop="SELECT 1"),
        SQLObject("usage_close_days", to=2, back_to=1, drop="DROP FUNCTION usage_close_days(date)"),
        SQLObject("usage_subscription_keep_used", to=3, back_to=2, drop=DROP_KEEP_USED),
        migrations.RunSQL(DROP_CHECKS, ADD_CHECKS),
        *[
            migrations.AlterField(model_name=name, name="usage_type", field=models.TextField())
            for name in MODELS
        ],
        migrations.RunSQL(migrations.RunSQL.noop, f"{LOCK_REFRESH}; {LOCKED}"),
    ]
