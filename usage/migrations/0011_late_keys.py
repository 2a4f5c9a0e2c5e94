"""The late keys mode: triggers log late records, or a window refuses them."""

from django.conf import settings
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

from usage.sql import capture
from usage.sql.migration_operations import SQLObject

DROP_KEEP_USED = (
    "DROP TRIGGER usage_subscription_keep_used ON usage_subscription;"
    " DROP FUNCTION usage_subscription_keep_used()"
)
HOLDS_USAGE = """
    SELECT
        EXISTS (SELECT 1 FROM usage_datausagerecord)
        OR EXISTS (SELECT 1 FROM usage_voiceusagerecord)
        OR EXISTS (SELECT 1 FROM usage_daily_sealed)
"""


def choose_late_keys(_apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Apply the setting to an empty database. One with usage needs `switch_late_keys`."""
    if settings.USAGE_LATE_KEYS != "window":
        return
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(HOLDS_USAGE)
        (holds_usage,) = cursor.fetchone()
        if not holds_usage:
            cursor.execute(capture.drop(capture.NEEDLESS_IN_A_WINDOW))
            cursor.execute("UPDATE usage_state SET late_keys = 'window'")


def refuse_without_triggers(_apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT FROM usage_state WHERE late_keys <> 'triggers'")
        if cursor.rowcount:
            raise RuntimeError(
                "The release before this one needs triggers on the raw tables. Set "
                "USAGE_LATE_KEYS=triggers and run manage.py switch_late_keys first."
            )


class Migration(migrations.Migration):
    dependencies = [("usage", "0010_asked_refreshes")]

    operations = [
        migrations.AddField(
            model_name="usagestate",
            name="late_keys",
            field=models.TextField(
                choices=[("triggers", "Triggers"), ("window", "Window")],
                db_comment="How changes of days that are over are noticed: triggers, or window (open days are all that can change).",
                db_default="triggers",
                default="triggers",
            ),
        ),
        SQLObject("usage_close_days", to=1, drop="DROP FUNCTION usage_close_days(date)"),
        SQLObject("usage_subscription_keep_used", to=2, back_to=1, drop=DROP_KEEP_USED),
        migrations.RunPython(choose_late_keys, refuse_without_triggers),
    ]
