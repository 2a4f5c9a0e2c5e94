"""A check, in every refresh, of the triggers that capture late records.

Nothing checked them before, and the previous release missed records that a MERGE moved. So the
sealed days with kept raw records count as unaudited, and each refresh audits one.
"""

import django.contrib.postgres.fields
from django.db import migrations, models

from usage.sql.migration_operations import LOCK_REFRESH

# A digest that no triggers have, so the first refresh finds a difference.
DISTRUST = """
    UPDATE usage_state
    SET capture_digest = '00000000-0000-0000-0000-000000000000'
    WHERE sealed_before IS NOT NULL
"""


class Migration(migrations.Migration):
    dependencies = [
        ("usage", "0012_checked_changes"),
    ]

    operations = [
        migrations.RunSQL(LOCK_REFRESH, migrations.RunSQL.noop),
        migrations.AddField(
            model_name="usagestate",
            name="capture_digest",
            field=models.UUIDField(
                db_comment="Fingerprint of the triggers on raw tables as the last refresh saw them; NULL: none looked yet.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="usagestate",
            name="unaudited_days",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.DateField(),
                db_comment="Sealed days that may miss changes, since a trigger was off: each refresh computes one of them again. NULL: none.",
                null=True,
                size=None,
            ),
        ),
        migrations.RunSQL(DISTRUST, LOCK_REFRESH),
    ]
