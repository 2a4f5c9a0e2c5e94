"""The cost of each test, as one of five marks, and how processes share the tests.

unit < database < process < browser < fault. bin/test --quick runs the first two.
"""

from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

TESTS = Path(__file__).parent

# Modules, or folders of them, whose tests start servers or commands, or take several seconds each.
PROCESS = (
    "bin",
    "worker",
    "test_compose.py",
    "test_compose_roles.py",
    "test_layers.py",
    "test_proxy.py",
    "test_hooks.py",
    "config/test_gunicorn.py",
    "config/test_secrets_in_logs.py",
    "config/test_security.py",
    "config/test_settings.py",
    "config/test_web.py",
    "usage/api/clients",
    "usage/api/test_api_doc.py",
    "usage/api/test_conformance.py",
    "usage/api/test_csv_stream.py",
    "usage/lists/test_plans.py",
    "usage/api/test_schema.py",
    "usage/commands/test_known_faults.py",
    "usage/database/test_session_settings.py",
    "usage/database/test_zone_refusals.py",
    "usage/services/imports/test_import_calls.py",
    "usage/services/raw/test_days.py",
    "usage/services/raw/test_zone_data.py",
    "usage/test_addresses.py",
    "usage/test_analysts_doc.py",
    "usage/test_copies_pages.py",
    "usage/services/capture/test_every_write.py",
    "usage/database/test_failover.py",
    "usage/test_history.py",
    "usage/services/imports/test_import_interruptions.py",
    "usage/test_load.py",
    "usage/database/test_pool.py",
    "usage/test_property.py",
    "usage/services/totals/test_refresh_snapshot.py",
    "usage/database/test_replicas.py",
    "usage/services/audit/test_restores_page.py",
    "usage/database/test_silent_servers.py",
    "usage/sql/test_sql_files.py",
    "usage/sql/test_third_type.py",
    "usage/sql/test_upgrade_0012.py",
    "usage/test_version.py",
    "usage/sql/test_view_upgrade.py",
)
BROWSER = {"chromium"}
DATABASE = {"db", "transactional_db", "django_db_setup"}
# Modules whose tests are long and share nothing: each may run in another process.
SPLIT = {
    "test_failover.py",
    "test_history.py",
    "test_restores_page.py",
    "test_silent_servers.py",
    "test_third_type.py",
    "test_worker.py",
}
DEAREST_FIRST = ["fault", "process", "browser", "database", "unit"]


def cost_of(item: pytest.Item) -> str:
    """Return the name of the mark of this test."""
    path = item.path.relative_to(TESTS).as_posix()
    fixtures = set(getattr(item, "fixturenames", ()))
    if path.startswith("faults/"):
        return "fault"
    if fixtures & BROWSER:
        return "browser"
    if path.startswith(PROCESS):
        return "process"
    return "database" if fixtures & DATABASE or item.get_closest_marker("django_db") else "unit"


def is_undone(item: pytest.Item) -> bool:
    """Return whether the test uses the database and a rollback undoes all that it did."""
    marker = item.get_closest_marker("django_db")
    fixtures = set(getattr(item, "fixturenames", ()))
    commits = "transactional_db" in fixtures or (marker and marker.kwargs.get("transaction"))
    return bool(not commits and (marker or fixtures & DATABASE))


def mark(items: list[pytest.Item]) -> None:
    """Mark each test by its cost."""
    for item in items:
        item.add_marker(cost_of(item))


def sort(items: list[pytest.Item]) -> None:
    """Begin with the tests that are undone, since others leave an emptied database; then sort by
    cost, the dearest first, so that the processes end at about the same time."""
    items.sort(key=lambda item: (not is_undone(item), DEAREST_FIRST.index(cost_of(item))))


class Scheduler(LoadScopeScheduling):
    """The distribution of the tests: each process gets the next test, or the next module of those
    whose tests share servers. The groups of pytest-xdist 3.8 do nothing with pytest 9.2."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0].removeprefix("tests/")
        if path.startswith("bin/"):
            # The launcher takes the first free port from a fixed one on: two would take the same.
            return "bin"
        is_shared = path.startswith(PROCESS) and Path(path).name not in SPLIT
        return path if is_shared else nodeid
