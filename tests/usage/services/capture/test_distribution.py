"""Raw records spread over a Citus cluster: what is refused, and that totals stay the same.

With CITUS_DATABASE_URL the tests of rules and properties run on the cluster, too.
"""

from collections.abc import Callable
from datetime import date

import psycopg2
import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.db import NotSupportedError, transaction

from tests.connections import ask, run_sql, second_session
from tests.exact import plain_totals, totals_of
from tests.factories import data_record, make_subscription, refresh_totals, voice_record
from usage.errors import LateKeysChangedError
from usage.models import RAW_TABLES, LateKeysMode, UsageState
from usage.services.audit.verification import verify
from usage.services.capture.citus import adapt, distributed_tables
from usage.services.raw import locks
from usage.services.raw.partitions import make_partitions
from usage.services.totals.late_keys_switch import switch

pytestmark = pytest.mark.usefixtures("only_default_partitions")

INSERT = "INSERT INTO usage_datausagerecord (subscription_id, usage_date, kilobytes_used)"


@pytest.mark.one_server("the extension is installed there")
def test_server_without_the_extension_says_what_to_do() -> None:
    with pytest.raises(CommandError, match="CREATE EXTENSION citus"):
        call_command("distribute_usage")
    assert distributed_tables() == []
    adapt()  # every migrate calls it; without Citus it changes nothing
    assert run_sql(
        "SELECT lanname FROM pg_proc INNER JOIN pg_language ON pg_language.oid = prolang"
        " WHERE proname = 'usage_totals_of_days'"
    ) == [("sql",)]


@pytest.mark.citus
def test_spreading_again_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("distribute_usage")
    call_command("distribute_usage", "--dry-run")
    assert capsys.readouterr().out == "The raw records are spread already.\n" * 2
    assert distributed_tables() == sorted(RAW_TABLES)
    assert run_sql(
        "SELECT count(DISTINCT nodename || ':' || nodeport) FROM citus_shards"
        " WHERE table_name = 'usage_datausagerecord'::regclass"
    ) != [(1,)]


@pytest.mark.citus
def test_triggers_are_refused(settings: LazySettings) -> None:
    settings.USAGE_LATE_KEYS = LateKeysMode.TRIGGERS
    with pytest.raises(LateKeysChangedError, match=r"scaling\.md"):
        switch()


@pytest.mark.citus
@pytest.mark.parametrize(
    "move",
    [
        "UPDATE usage_datausagerecord SET subscription_id = 6",
        "UPDATE usage_datausagerecord AS record SET subscription_id = other.subscription_id"
        " FROM (VALUES (5, 6::bigint)) AS other (was, subscription_id)"
        " WHERE record.subscription_id = was",
        "MERGE INTO usage_datausagerecord AS record"
        " USING (VALUES (5, 6::bigint)) AS other (was, subscription_id)"
        " ON record.subscription_id = was"
        " WHEN MATCHED THEN UPDATE SET subscription_id = other.subscription_id",
    ],
)
def test_a_move_to_another_subscription_is_refused(move: str) -> None:
    """Fails with Citus before 13.2.1, which confuses columns of two tables by their number.

    It would leave the record on the server of its former subscription.
    """
    data_record(make_subscription(id=5), "2026-11-01T12:00:00Z")
    before = plain_totals()
    with pytest.raises(NotSupportedError, match="not allowed"), transaction.atomic():
        run_sql(move)
    assert plain_totals() == before


@pytest.fixture
def usage(
    only_default_partitions: None, set_today: Callable[[str], None], settings: LazySettings
) -> None:
    settings.USAGE_OPEN_DAYS = settings.USAGE_RAW_RETENTION_DAYS = 3
    make_partitions([date(2026, 11, day) for day in range(1, 4)])
    for pk in range(1, 33):
        subscription = make_subscription(id=pk)
        for day in range(1, 5):
            data_record(subscription, f"2026-11-0{day}T12:00:00Z", price="1.5", kilobytes=day)
            voice_record(subscription, f"2026-11-0{day}T12:00:00Z", price="0.25", seconds=pk)
    set_today("2026-11-04")


@pytest.mark.citus
@pytest.mark.usefixtures("usage")
def test_totals_are_those_of_all_servers() -> None:
    """Fails when sealing, auditing or live totals read the coordinator alone.

    That happens when PostgreSQL inlines usage_totals_of_days().
    """
    expected = plain_totals()
    assert len(expected) == 32 * 4 * 2
    refresh_totals()
    assert len(totals_of("usage_daily_sealed")) == 32 * 2
    assert totals_of("usage_daily") == totals_of("usage_daily_live") == expected
    live = "usage_daily_live_of(ARRAY[5, 6], '2026-11-01', '2026-11-30')"
    for _ in range(8):  # after five custom plans the server may choose a generic plan
        assert totals_of(live) == [row for row in expected if row[0] in (5, 6)]
    assert verify().differing == 0


@pytest.mark.citus
@pytest.mark.usefixtures("usage")
@pytest.mark.parametrize("place", ["coordinator", "worker", "shard", "prepared on a worker"])
def test_writer_on_any_server_is_waited_for(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a closing locks the raw tables on the coordinator alone.

    It would lose the records of a writer that is connected to a worker, or is prepared there.
    """
    monkeypatch.setattr(locks, "TRIES", 1)
    (node,) = run_sql(
        "SELECT nodename, nodeport, shardid FROM citus_shards"
        " INNER JOIN pg_dist_node USING (nodename, nodeport)"
        " WHERE table_name = 'usage_datausagerecord_p20261101'::regclass"
        " AND shardid = get_shard_id_for_distribution_column("
        "'usage_datausagerecord_p20261101', 5)"
    )
    on_worker = {} if place == "coordinator" else {"host": node[0], "port": node[1]}
    table = "usage_datausagerecord"
    if place in ("shard", "prepared on a worker"):
        table = f"usage_datausagerecord_p20261101_{node[2]}"
    with second_session(autocommit=True, **on_worker) as session:
        if table != "usage_datausagerecord":
            ask(session, "SET citus.enable_manual_changes_to_shards = on")
        ask(session, "BEGIN")
        ask(
            session,
            f"{INSERT} VALUES (5, '2026-11-01T01:00Z', 7)".replace("usage_datausagerecord", table),
        )
        if place == "prepared on a worker":
            ask(session, "PREPARE TRANSACTION 'of a test'")
        refresh_totals()
        assert UsageState.objects.get().sealed_before is None
        ask(session, "COMMIT PREPARED 'of a test'" if "prepared" in place else "COMMIT")
    refresh_totals()
    assert UsageState.objects.get().sealed_before == date(2026, 11, 2)
    assert totals_of("usage_daily") == plain_totals()
    with (
        second_session(autocommit=True, **on_worker) as session,
        pytest.raises(psycopg2.Error, match="usage_raw_kept_from_2026-11-02"),
    ):
        ask(session, f"{INSERT} VALUES (5, '2026-11-01T01:00Z', 7)")
