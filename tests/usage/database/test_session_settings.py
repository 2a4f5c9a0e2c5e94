"""Totals stay exact under every setting that a role can have: all of them are tried."""

from collections.abc import Callable
from datetime import date

import pytest
from django.db import DatabaseError, connection

from tests.connections import run_sql
from tests.exact import plain_totals, totals_of
from tests.factories import data_record, make_subscription, refresh_and_seal, refresh_totals
from usage.errors import UsageError
from usage.services.audit.verification import rebuild, verify
from usage.services.raw.partitions import make_partitions, partition_days
from usage.services.totals.retention import prune

pytestmark = [
    pytest.mark.usefixtures("only_default_partitions"),
    pytest.mark.one_server("no record comes late there"),
]

DAY, NEXT_DAY = date(2026, 11, 17), date(2026, 11, 18)
# A role may limit the time and temporary memory of our statements, and may be read-only.
LEFT_ALONE = r"timeout$|^transaction_|^default_transaction_read_only$|^temp_buffers$"
HOSTILE = """
    SELECT name, value
    FROM pg_settings
    CROSS JOIN LATERAL (
        SELECT CASE boot_val WHEN 'on' THEN 'off' ELSE 'on' END WHERE vartype = 'bool'
        UNION ALL
        SELECT unnest(enumvals) WHERE vartype = 'enum'
        UNION ALL
        SELECT unnest(ARRAY[min_val, max_val]) WHERE vartype IN ('integer', 'real')
        UNION ALL
        SELECT 'SQL, DMY' WHERE name = 'DateStyle'
        UNION ALL
        SELECT 'Asia/Kolkata' WHERE name = 'TimeZone'
        UNION ALL
        SELECT 'view, foreign-table' WHERE name = 'restrict_nonsystem_relation_kind'
    ) AS hostile (value)
    WHERE
        context = 'user' AND name !~ %s AND NOT starts_with(name, 'plpgsql.')
        AND value IS DISTINCT FROM boot_val
    ORDER BY name, value
"""


def test_totals_are_exact_whatever_a_role_has_set(set_today: Callable[[str], None]) -> None:
    """Fails, for example, when the refresh uses quote_all_identifiers of its role."""
    ours, late = make_subscription(id=1), make_subscription(id=2)
    for day in range(16, 21):
        data_record(ours, f"2026-11-{day}T12:00:00Z", price="1", kilobytes=day)
    set_today("2026-11-20")
    refresh_and_seal()
    [(role,)] = run_sql("SELECT quote_ident(current_user)")
    hostile = run_sql(HOSTILE, [LEFT_ALONE])
    assert len(hostile) > 150
    for number, together in enumerate(_rounds(hostile)):
        for name, value in together.items():
            run_sql(f"ALTER ROLE {role} SET {name} = '{value}'")
        connection.close()
        try:
            data_record(ours, f"2026-11-20T13:00:{number:02}Z", price="1")
            data_record(late, f"2026-11-17T13:00:{number:02}Z", price="1")
            assert work_on_totals(), together
        except (UsageError, DatabaseError) as error:
            raise AssertionError(f"{error}, with {together}") from error
        finally:
            connection.close()
            run_sql(f"ALTER ROLE {role} RESET ALL")
            connection.close()


def _rounds(hostile: list[tuple[str, str]]) -> list[dict[str, str]]:
    """Return groups of at most 25 settings to try together, each name once in a group."""
    rounds: list[dict[str, str]] = []
    for name, value in hostile:
        for together in rounds:
            if name not in together and len(together) < 25:
                together[name] = value
                break
        else:
            rounds.append({name: value})
    return rounds


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quote_all_identifiers", "on"),
        ("restrict_nonsystem_relation_kind", "view"),
        ("default_transaction_isolation", "repeatable read"),
        ("enable_partition_pruning", "off"),
        ("enable_hashagg", "off"),
        ("plan_cache_mode", "force_generic_plan"),
        ("join_collapse_limit", "1"),
    ],
)
@pytest.mark.parametrize("whose", ["ROLE", "DATABASE"])
def test_our_sessions_reset_settings_of_the_role_and_the_database(
    name: str, value: str, whose: str
) -> None:
    if not run_sql("SELECT 1 FROM pg_settings WHERE name = %s", [name]):
        pytest.skip("this version of the server does not have it")
    [(owner,)] = run_sql(
        f"SELECT quote_ident({'current_user' if whose == 'ROLE' else 'current_database()'})"
    )
    before = run_sql(f"SHOW {name}")
    run_sql(f"ALTER {whose} {owner} SET {name} = '{value}'")
    connection.close()
    try:
        assert run_sql(f"SHOW {name}") == before
    finally:
        run_sql(f"ALTER {whose} {owner} RESET {name}")
        connection.close()


def test_costs_that_an_operator_set_for_the_machine_stay() -> None:
    [(role,)] = run_sql("SELECT quote_ident(current_user)")
    run_sql(f"ALTER ROLE {role} SET random_page_cost = 1.1")
    connection.close()
    try:
        assert run_sql("SHOW random_page_cost") == [("1.1",)]
    finally:
        run_sql(f"ALTER ROLE {role} RESET random_page_cost")
        connection.close()


def work_on_totals() -> bool:
    """Run everything that reads or writes totals; return whether all results were exact."""
    live = totals_of("usage_daily_live")
    named = totals_of("usage_daily_live_of(ARRAY[1, 2], '2026-01-01', '2027-01-01')")
    expected = plain_totals()
    make_partitions([NEXT_DAY.replace(month=12)])
    found = partition_days("usage_voiceusagerecord")
    refresh_totals()
    refreshed = totals_of("usage_daily")
    rebuild(from_date=DAY, to_date=NEXT_DAY)
    audit = verify()
    prune()
    return (
        live == named == refreshed == expected == totals_of("usage_daily")
        and found == [NEXT_DAY.replace(month=12)]
        and not audit.differing
        and not audit.periods_differing
    )
