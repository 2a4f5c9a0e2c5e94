"""Capture of records that a MERGE moves, and the check of noted changes.

The first refresh adds up all period totals again, so it corrects those that the previous release
left wrong. Until then readers add up daily totals.
"""

from django.db import migrations, models

from usage.sql import capture
from usage.sql.migration_operations import LOCK_REFRESH, Capture, SQLObject

FORGET_PERIODS = "UPDATE usage_state SET open_digest = NULL"


class Migration(migrations.Migration):
    dependencies = [("usage", "0011_late_keys")]

    operations = [
        # The lock comes first: here when migrating forwards, in the last operation backwards.
        migrations.RunSQL(LOCK_REFRESH, migrations.RunSQL.noop),
        migrations.AddField(
            model_name="refreshrun",
            name="remark",
            field=models.TextField(
                blank=True,
                db_comment="Problems that a successful run found and repaired, or could not finish.",
                db_default="",
                default="",
            ),
        ),
        SQLObject(
            "usage_total_weight",
            to=1,
            drop="DROP FUNCTION usage_total_weight(bigint, date, text)",
        ),
        migrations.RunSQL(FORGET_PERIODS, FORGET_PERIODS),
        Capture("usage_log_late_keys", to=2, back_to=1, drop=capture.drop()),
        migrations.RunSQL(migrations.RunSQL.noop, LOCK_REFRESH),
    ]
