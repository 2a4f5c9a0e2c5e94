"""The day reached by retention, so that a clock that is ahead drops little."""

from django.db import migrations, models

# If the clock is ahead now, as_of of the last refresh still has the right day.
REACH_TODAY = """
UPDATE usage_state SET reached_day = usage_day(least(as_of, clock_timestamp()))
"""


class Migration(migrations.Migration):
    dependencies = [("usage", "0014_quantity_bound")]

    operations = [
        migrations.AddField(
            model_name="usagestate",
            name="reached_day",
            field=models.DateField(
                db_comment="The day that retention takes for today: one prune moves it by at most 3 days.",
                null=True,
            ),
        ),
        migrations.RunSQL(REACH_TODAY, migrations.RunSQL.noop),
    ]
