"""Records that a MERGE moves are captured, and noted changes are checked.

Period totals that the release before this one left wrong are found and mended by the first refresh,
which adds them all up again. Until then readers add up daily totals.
"""

from django.db import migrations, models

from usage.sql import capture
from usage.sql.migration_operations import LOCK_REFRESH, Capture, SQLObject

FORGET_PERIODS = "UPDATE usage_state SET open_digest = NULL"


class Migration(migrations.Migration):
    dependencies = [("usage", "0011_late_keys")]

    operations = [
        # First on the way up, and, as the last operation, first on the way down.
        migrations.RunSQL(LOCK_REFRESH, migrations.RunSQL.noop),
        migrations.AddField(
            model_name="refreshrun",
            name="remark",
            field=models.TextField(
                blank=True,
                db_comment="What a run that succeeded found and mended, or could not finish.",
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
