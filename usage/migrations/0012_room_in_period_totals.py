"""Room in the pages of usage_period_total for the totals that each refresh changes.

A changed price takes its entry to another place in the indexes by price, and the server never
joins pages that are half empty: such an index ends two fifths full however it was built. Built
full, each of its pages is split first. A build is VACUUM FULL, REINDEX or a restore; nothing is
rebuilt here.
"""

from django.db import migrations

ROOM = """
    ALTER TABLE usage_period_total SET (fillfactor = 70);
    ALTER INDEX usage_period_total_pkey SET (fillfactor = 70);
    ALTER INDEX usage_period_total_price SET (fillfactor = 40);
    ALTER INDEX usage_period_total_largest SET (fillfactor = 40)
"""

NO_ROOM = """
    ALTER TABLE usage_period_total RESET (fillfactor);
    ALTER INDEX usage_period_total_pkey RESET (fillfactor);
    ALTER INDEX usage_period_total_price RESET (fillfactor);
    ALTER INDEX usage_period_total_largest RESET (fillfactor)
"""


class Migration(migrations.Migration):
    dependencies = [("usage", "0011_late_keys")]

    operations = [migrations.RunSQL(ROOM, NO_ROOM)]
