"""The triggers that capture late records are looked at by every refresh."""

import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("usage", "0012_checked_changes"),
    ]

    operations = [
        migrations.AddField(
            model_name="usagestate",
            name="capture_digest",
            field=models.UUIDField(
                db_comment="Fingerprint of the triggers on raw tables as the last refresh saw them; NULL: they were put there since.",
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
    ]
