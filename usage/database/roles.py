"""The privileges of each role in the database. Each migrate grants them, and checks compare them.

The owner, who migrates and refreshes, needs no grant. Files in usage/sql create the roles.
"""

from dataclasses import dataclass

from django.apps import apps
from django.db import connections

from usage.models import RAW_TABLES

READ = "SELECT"
WRITE = "SELECT, INSERT, UPDATE, DELETE"

PRIVILEGES: dict[str, dict[str, str]] = {
    "usage_analyst": {
        "usage_daily": READ,
        "usage_daily_open": READ,
        "usage_daily_live": READ,
        "usage_monthly": READ,
        "usage_freshness": READ,
        "usage_type": READ,
    },
    "usage_writer": {
        **dict.fromkeys(RAW_TABLES, WRITE),
        "usage_record": READ,
        # FOR KEY SHARE needs UPDATE on some column. created_at is the least important one.
        "usage_subscription": "SELECT, INSERT, UPDATE (created_at)",
        "usage_import_turn": "SELECT, UPDATE (taken_at)",
    },
    "usage_web": {
        "usage_daily": READ,
        "usage_daily_live": READ,
        "usage_period_total": READ,
        # A request for a refresh inserts a queued run.
        "usage_refreshrun": "SELECT, INSERT, UPDATE",
        "usage_accesstoken": WRITE,
        "usage_refreshtally": READ,
        "usage_state": READ,
        # To delete a user sets owner_id to NULL.
        "usage_subscription": "SELECT, UPDATE (owner_id)",
        # The readiness check compares these sequences with the state.
        "usage_logging_before": READ,
        "usage_raw_kept_from": READ,
        "usage_type": READ,
        # Functions for live totals and records read these with the privileges of their caller.
        "usage_daily_sealed": READ,
        "usage_late_key": READ,
        "usage_record": READ,
        **dict.fromkeys(RAW_TABLES, READ),
    },
}

# Relations that do not exist (yet, or in an older version) are skipped.
MISSING = r"""
SELECT
    wanted.role,
    quote_ident(wanted.relation) AS relation,
    wanted.privileges,
    pg_roles.rolname IS NOT NULL AS role_exists
FROM unnest(%s::text[], %s::text[], %s::text[]) AS wanted (role, relation, privileges)
LEFT JOIN pg_roles ON pg_roles.rolname = wanted.role
WHERE
    to_regclass(quote_ident(wanted.relation)) IS NOT NULL
    AND (
        pg_roles.rolname IS NULL
        OR EXISTS (
            SELECT
            FROM regexp_matches(wanted.privileges, '([A-Z]+)(?: \((\w+)\))?', 'g') AS one
            WHERE NOT CASE
                WHEN one[2] IS NULL THEN
                    has_table_privilege(pg_roles.oid, quote_ident(wanted.relation), one[1])
                ELSE has_column_privilege(
                    pg_roles.oid, quote_ident(wanted.relation), one[2], one[1]
                )
            END
        )
    )
ORDER BY wanted.role, wanted.privileges, wanted.relation
"""

# Only the owner may run these. After a restore without privileges (pg_restore -x) everybody may.
OWNERS_FUNCTIONS = ("usage_log_late_keys()", "usage_close_days(date)")
PUBLIC_FUNCTIONS = """
SELECT function.oid::regprocedure::text
FROM unnest(%s::text[]) AS names (name)
INNER JOIN pg_proc AS function ON function.oid = to_regprocedure(names.name)
CROSS JOIN LATERAL aclexplode(
    coalesce(function.proacl, acldefault('f', function.proowner))
) AS privilege
WHERE privilege.grantee = 0 AND privilege.privilege_type = 'EXECUTE'
ORDER BY names.name
"""

# A login does not inherit the settings of its role, so each login needs its own limit.
UNLIMITED_ANALYSTS = """
WITH limits AS (
    SELECT setrole, setdatabase, split_part(setting, '=', 2) AS statement_timeout
    FROM pg_db_role_setting CROSS JOIN unnest(setconfig) AS settings (setting)
    WHERE starts_with(setting, 'statement_timeout=')
)

SELECT quote_ident(login.rolname), coalesce(limits.statement_timeout, '60s')
FROM pg_roles AS analyst
INNER JOIN pg_roles AS login ON pg_has_role(login.oid, analyst.oid, 'USAGE')
LEFT JOIN limits ON limits.setrole = analyst.oid AND limits.setdatabase = 0
WHERE
    analyst.rolname = 'usage_analyst'
    AND login.rolcanlogin
    AND NOT login.rolsuper
    AND login.rolname <> current_user
    AND NOT EXISTS (
        SELECT
        FROM limits AS own
        WHERE
            own.setrole IN (login.oid, 0)
            AND own.setdatabase IN (
                (SELECT oid FROM pg_database WHERE datname = current_database()), 0
            )
    )
ORDER BY login.rolname
"""


@dataclass(frozen=True)
class MissingGrant:
    """Privileges that a role needs and lacks on some relations."""

    role: str
    role_exists: bool
    privileges: str
    relations: list[str]

    def __str__(self) -> str:
        return f"GRANT {self.privileges} ON {', '.join(self.relations)} TO {self.role}"


def privileges_of(role: str) -> dict[str, str]:
    """Return the privileges of a role by relation; usage_web also writes Django's own tables."""
    if role != "usage_web":
        return PRIVILEGES[role]
    return PRIVILEGES[role] | {
        model._meta.db_table: WRITE
        for model in apps.get_models(include_auto_created=True)
        if model._meta.app_label != "usage" and model._meta.managed and not model._meta.proxy
    }


def missing_grants(using: str = "default") -> list[MissingGrant]:
    """Return the grants that are missing in this database."""
    wanted = [
        (role, relation, privileges)
        for role in PRIVILEGES
        for relation, privileges in privileges_of(role).items()
    ]
    missing: dict[tuple[str, bool, str], list[str]] = {}
    with connections[using].cursor() as cursor:
        cursor.execute(MISSING, [list(column) for column in zip(*wanted, strict=True)])
        for role, relation, privileges, role_exists in cursor:
            missing.setdefault((role, role_exists, privileges), []).append(relation)
    return [MissingGrant(*key, relations) for key, relations in missing.items()]


def grant_missing(using: str = "default") -> None:
    """Grant what the existing roles lack, and revoke the owner's functions from PUBLIC."""
    for statement in public_functions(using):
        with connections[using].cursor() as cursor:
            cursor.execute(statement)
    for grant in missing_grants(using):
        if grant.role_exists:
            with connections[using].cursor() as cursor:
                cursor.execute(str(grant))


def public_functions(using: str = "default") -> list[str]:
    """Return statements that revoke the owner's functions from PUBLIC."""
    with connections[using].cursor() as cursor:
        cursor.execute(PUBLIC_FUNCTIONS, [list(OWNERS_FUNCTIONS)])
        return [f"REVOKE EXECUTE ON FUNCTION {name} FROM public" for (name,) in cursor]


def unlimited_analysts(using: str = "default") -> list[str]:
    """Return statements that set a time limit for logins of analysts that have none."""
    with connections[using].cursor() as cursor:
        cursor.execute(UNLIMITED_ANALYSTS)
        return [f"ALTER ROLE {login} SET statement_timeout = '{limit}'" for login, limit in cursor]
