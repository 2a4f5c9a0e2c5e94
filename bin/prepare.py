"""Prepare the database of bin/serve: python -m bin.prepare.

It migrates, loads sample usage into an empty database, and makes the demo operator with its token.
A second run continues after a kill in the middle.
"""

import argparse
import os
import sys
from datetime import date
from pathlib import Path

import django
from django.core.management import call_command

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.contrib.auth import get_user_model  # noqa: E402 - after django.setup()
from django.contrib.auth.models import User  # noqa: E402
from django.db import connection  # noqa: E402

from bin import place  # noqa: E402
from usage.models import (  # noqa: E402
    RECORD_MODELS,
    AccessToken,
    Scope,
)
from usage.models.tokens import digest_of  # noqa: E402
from usage.services.accounts import tokens  # noqa: E402
from usage.services.raw import clock  # noqa: E402

OPERATOR = "demo"


def load_sample(local: Path, *, subscriptions: int, days: int, records: int) -> None:
    """Fill an empty database that has no operator yet.

    A file keeps the day of the first run. After a kill in the middle, also on a later day, the next
    run then makes the same records to the end.
    """
    if get_user_model().objects.filter(username=OPERATOR).exists():
        return
    first_day = local / f"sample-of-{database_identity()}"
    if not any(model.objects.exists() for model in RECORD_MODELS.values()):
        place.keep(first_day, clock.today().isoformat())
    if first_day.exists():
        print(
            f"Loading {records:,} sample records of {subscriptions} subscriptions ...", flush=True
        )
        until = date.fromisoformat(first_day.read_text().strip())
        call_command(
            "generate_usage", subscriptions=subscriptions, days=days, records=records, until=until
        )
    call_command("refresh_usage")


def forget_sample(local: Path) -> None:
    """Remove the file with the day; load_sample() skips a database that has an operator."""
    (local / f"sample-of-{database_identity()}").unlink(missing_ok=True)


def database_identity() -> str:
    """Return an identifier of this database that does not depend on its address."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT system_identifier, oid FROM pg_control_system(), pg_database"
            " WHERE datname = current_database()"
        )
        return "-".join(str(number) for number in cursor.fetchone())


def make_operator(local: Path) -> User:
    """Make the operator with the password in .local, and return it."""
    password = place.secret(local / "demo_password")
    operators = get_user_model().objects
    operator = operators.filter(username=OPERATOR).first()
    if operator is None:
        operator = operators.create_superuser(OPERATOR, password=password)
    elif not operator.check_password(password):
        operator.set_password(password)
        operator.save()
    return operator


def keep_token(local: Path, operator: User) -> None:
    """Write the key of a valid token to .local/demo_token, unless the file has one."""
    kept = local / "demo_token"
    known = AccessToken.objects.filter(user=operator, name=OPERATOR, revoked_at=None)
    if kept.exists() and known.filter(digest=digest_of(kept.read_text().strip())).exists():
        return
    for token in known:
        tokens.revoke_token(token.pk)
    scopes = [Scope.READ, Scope.REFRESH_READ, Scope.REFRESH_RUN]
    _, key = tokens.make_token(user=operator, name=OPERATOR, scopes=scopes)
    place.keep(kept, key)


def main() -> None:
    """Prepare the database and write the token to .local/demo_token."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--local", type=Path, required=True)
    parser.add_argument("--sample-subscriptions", type=int, required=True)
    parser.add_argument("--sample-days", type=int, required=True)
    parser.add_argument("--sample-records", type=int, required=True)
    options = parser.parse_args()
    call_command("migrate", interactive=False, verbosity=0)
    load_sample(
        options.local,
        subscriptions=options.sample_subscriptions,
        days=options.sample_days,
        records=options.sample_records,
    )
    keep_token(options.local, make_operator(options.local))
    forget_sample(options.local)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
