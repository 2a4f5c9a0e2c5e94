"""The copies of docs/operations.md and docs/scaling.md, line by line, with records above 2^32."""

from collections.abc import Iterator

import pytest

from tests.page_servers import LARGE, LATE, LIVED, Servers, lines_of, page_servers, sections_of

ZONE = "Another time zone"
BACK = "How to come back"
USER = (
    "INSERT INTO auth_user (password, is_superuser, username, first_name, last_name, email,"
    " is_staff, is_active, date_joined)"
    " VALUES ('', false, '{}', '', '', '', false, true, now())"
)
EXACT = """
    SELECT count(*) > 0 AND bool_and(total_usage = raw_usage) FROM usage_daily FULL JOIN (
        SELECT subscription_id, usage_day(usage_date) AS day, sum(kilobytes_used) AS raw_usage
        FROM usage_datausagerecord GROUP BY 1, 2
    ) AS raw USING (subscription_id, day)
    WHERE usage_type = 'data' OR usage_type IS NULL
"""


@pytest.fixture
def servers() -> Iterator[Servers]:
    with page_servers() as servers:
        yield servers


def test_another_time_zone(servers: Servers) -> None:
    """Fails when records above 2^32 stop the copy, or the next user or subscription is refused."""
    servers.start("server")
    servers.live("server")
    servers.sql("server", USER.format("anna"))
    servers.shell(*lines_of(sections_of("operations")[ZONE]), "manage.py check_restore")
    new = "psql -qAtX postgresql://usage@server/usage_new -c"
    for statement in (EXACT, "SELECT usage_day('2026-07-01T23:30:00Z') = '2026-07-02'"):
        assert servers.shell(f'{new} "{" ".join(statement.split())}"').strip() == "t"
    servers.shell(
        f"{new} \"INSERT INTO usage_subscription (external_id) VALUES ('next')\"",
        f'{new} "{USER.format("next")}"',
        f'{new} "INSERT INTO usage_datausagerecord (subscription_id, usage_date, kilobytes_used)'
        ' VALUES (1, now(), 8589934592)"  # exits 1: usage_quantity_bound',
    )


def test_coming_back_from_a_cluster(servers: Servers) -> None:
    """From a window that is not spread: the steps are those of PostgreSQL alone."""
    servers.environment |= {"USAGE_LATE_KEYS": "window", "USAGE_OPEN_DAYS": "20"}
    servers.start("coordinator")
    servers.shell("manage.py migrate --verbosity 0", server="coordinator")
    servers.sql("coordinator", LIVED)
    servers.sql("coordinator", LARGE)
    servers.shell("manage.py refresh_usage", "manage.py refresh_usage", server="coordinator")
    assert servers.sql("coordinator", "SELECT sealed_before FROM usage_state").strip()
    servers.start("new")
    servers.shell(*lines_of(sections_of("scaling")[BACK]))
    assert servers.totals("new") == servers.totals("coordinator")
    servers.shell("manage.py check_restore", "manage.py switch_late_keys --dry-run", server="new")
    del servers.environment["USAGE_LATE_KEYS"]
    servers.shell("manage.py switch_late_keys", server="new")
    servers.sql("new", LATE)
    servers.shell("manage.py refresh_usage", "manage.py verify_usage", server="new")
