"""A requested refresh waits as a queued run; there is at most one."""

from django.db import migrations, models

COMMENTS = """
COMMENT ON COLUMN usage_refreshrun.started_at IS
'When the run began; of a queued run, when it was requested.';
COMMENT ON COLUMN usage_refreshrun.status IS
'queued (until the worker takes it), running, success, skipped (another run was on, or paused) or failed.';
"""
COMMENTS_BEFORE = """
COMMENT ON COLUMN usage_refreshrun.started_at IS
'When the run began.';
COMMENT ON COLUMN usage_refreshrun.status IS
'running, success, skipped (another run was on, or paused) or failed.';
"""


class Migration(migrations.Migration):
    dependencies = [
        ("usage", "0009_access_tokens"),
    ]

    operations = [
        # Django would also set the type of the columns, which PostgreSQL refuses: a view reads them.
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(COMMENTS, COMMENTS_BEFORE)],
            state_operations=[
                migrations.AlterField(
                    model_name="refreshrun",
                    name="started_at",
                    field=models.DateTimeField(
                        db_comment="When the run began; of a queued run, when it was requested."
                    ),
                ),
                migrations.AlterField(
                    model_name="refreshrun",
                    name="status",
                    field=models.TextField(
                        choices=[
                            ("queued", "Queued"),
                            ("running", "Running"),
                            ("success", "Success"),
                            ("skipped", "Skipped"),
                            ("failed", "Failed"),
                        ],
                        db_comment="queued (until the worker takes it), running, success, skipped (another run was on, or paused) or failed.",
                        default="running",
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="refreshrun",
            constraint=models.UniqueConstraint(
                condition=models.Q(("status", "queued")),
                fields=("status",),
                name="usage_refreshrun_one_queued",
            ),
        ),
    ]
