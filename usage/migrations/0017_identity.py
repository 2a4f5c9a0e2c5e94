"""The identity of a database, and the replica identity of usage_late_key."""

from django.contrib.postgres.functions import RandomUUID
from django.db import migrations, models

# A publication of all tables refuses to delete from a table without a replica identity.
IDENTIFY_ROWS = """
ALTER TABLE usage_late_key REPLICA IDENTITY FULL;
ALTER TABLE usage_refresh_lock REPLICA IDENTITY FULL;
"""
IDENTIFY_NO_ROWS = """
ALTER TABLE usage_late_key REPLICA IDENTITY DEFAULT;
ALTER TABLE usage_refresh_lock REPLICA IDENTITY DEFAULT;
"""


class Migration(migrations.Migration):
    dependencies = [("usage", "0016_turns")]

    operations = [
        migrations.AddField(
            model_name="usagestate",
            name="uuid",
            field=models.UUIDField(
                db_comment="Identifies the data of this database; a dump and a replica have the same.",
                db_default=RandomUUID(),
                editable=False,
            ),
        ),
        migrations.AddField(
            model_name="usagestate",
            name="timeline",
            field=models.IntegerField(
                db_comment="Timeline of the server at the last refresh; NULL if there was none.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="usagestate",
            name="place",
            field=models.TextField(
                blank=True,
                db_comment="Server, database and file of usage_period_total at the last refresh; empty if there was none.",
                db_default="",
                default="",
            ),
        ),
        migrations.RunSQL(IDENTIFY_ROWS, IDENTIFY_NO_ROWS),
    ]
