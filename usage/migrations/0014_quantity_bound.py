"""A bound of 2^32 on the quantity of new records, so that the totals of a key fit into a bigint."""

import django.core.validators
from django.db import migrations, models

from usage.sql.migration_operations import SQLObject

DROP = """
ALTER TABLE usage_datausagerecord DROP CONSTRAINT usage_quantity_bound;
ALTER TABLE usage_voiceusagerecord DROP CONSTRAINT usage_quantity_bound;
COMMENT ON COLUMN usage_datausagerecord.kilobytes_used IS
'Quantity used, in kilobytes, from 0 to 2^40.';
COMMENT ON COLUMN usage_voiceusagerecord.seconds_used IS
'Quantity used, in seconds, from 0 to 2^40.'
"""
# Writers queue behind the lock, so the migration gives up after some seconds. Run it again then.
WAIT_BRIEFLY = "SET LOCAL lock_timeout = '5s'"


def bounded(model: str, quantity: str) -> migrations.AlterField:
    return migrations.AlterField(
        model_name=model,
        name=quantity,
        field=models.BigIntegerField(
            validators=[
                django.core.validators.MinValueValidator(0),
                django.core.validators.MaxValueValidator(4294967296),
            ]
        ),
    )


class Migration(migrations.Migration):
    dependencies = [("usage", "0013_capture_guards")]

    operations = [
        migrations.RunSQL(WAIT_BRIEFLY, WAIT_BRIEFLY),
        SQLObject(
            "usage_quantity_bound",
            to=1,
            drop=DROP,
            state_operations=[
                bounded("datausagerecord", "kilobytes_used"),
                bounded("voiceusagerecord", "seconds_used"),
            ],
        ),
        migrations.RunSQL(WAIT_BRIEFLY, WAIT_BRIEFLY),
    ]
