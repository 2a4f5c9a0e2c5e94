"""The time of a repair grows with the late keys, also with wrong statistics of their log."""

from datetime import date

import pytest
from django.db import transaction

from tests.connections import run_sql
from usage.services.totals.changes import Changes
from usage.sql import queries


@pytest.mark.usefixtures("state")
def test_late_keys_are_not_compared_with_each_other_one_by_one() -> None:
    """Each run vacuums the log while it is empty, and the log keeps its pages. The planner then
    expects one key. Fails when sealed totals without records are found by NOT EXISTS: then 16,000
    keys take two minutes.
    """
    run_sql(
        "INSERT INTO usage_late_key (subscription_id, day, usage_type)"
        " SELECT number, date '2026-11-01', 'data' FROM generate_series(1, 20000) AS keys (number)"
    )
    run_sql("DELETE FROM usage_late_key")
    run_sql("VACUUM (TRUNCATE FALSE) usage_late_key")
    bounds = {"kept_from": date.min, "sealed_before": date.max, "days": [], "usage_types": []}
    bounds["remove"] = True
    with transaction.atomic():
        Changes()
        rows = run_sql(f"EXPLAIN {queries.read('repair_keys')}", bounds)
    plan = "\n".join(line for (line,) in rows)
    assert "rows=1 " in plan
    assert "Anti Join" not in plan
