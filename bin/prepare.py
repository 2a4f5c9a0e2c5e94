"""Brings the database of bin/serve to where the processes can start: python -m bin.prepare.

Migrates, loads sample usage into a database that has none, and makes the demo operator with its
token. Safe to run again, also after a kill in the middle.
"""

import argparse
import os
import sys
from pathlib import Path

import django
from django.core.management import call_command

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.contrib.auth import get_user_model  # noqa: E402 - after django.setup()
from rest_framework.authtoken.models import Token  # noqa: E402

from bin import place  # noqa: E402
from usage.models import DataUsageRecord, VoiceUsageRecord  # noqa: E402

OPERATOR = "demo"
SEED = 1


def load_sample(*, subscriptions: int, days: int, records: int) -> None:
    """Fill an empty database, the first time only: until there is an operator."""
    has_records = DataUsageRecord.objects.exists() or VoiceUsageRecord.objects.exists()
    if get_user_model().objects.filter(username=OPERATOR).exists():
        return
    if not has_records:
        print(
            f"Loading {records:,} sample records of {subscriptions} subscriptions ...", flush=True
        )
        call_command(
            "generate_usage", subscriptions=subscriptions, days=days, records=records, seed=SEED
        )
    call_command("refresh_usage")


def make_operator(local: Path) -> str:
    """The operator, whose password is the one kept in .local; returns its API token."""
    password = place.secret(local / "demo_password")
    operators = get_user_model().objects
    operator = operators.filter(username=OPERATOR).first()
    if operator is None:
        operator = operators.create_superuser(OPERATOR, password=password)
    elif not operator.check_password(password):
        operator.set_password(password)
        operator.save()
    token, _ = Token.objects.get_or_create(user=operator)
    return token.key


def main() -> None:
    """Prepare the database; the token goes to .local/demo_token."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--local", type=Path, required=True)
    parser.add_argument("--sample-subscriptions", type=int, required=True)
    parser.add_argument("--sample-days", type=int, required=True)
    parser.add_argument("--sample-records", type=int, required=True)
    options = parser.parse_args()
    call_command("migrate", interactive=False, verbosity=0)
    load_sample(
        subscriptions=options.sample_subscriptions,
        days=options.sample_days,
        records=options.sample_records,
    )
    place.keep(options.local / "demo_token", make_operator(options.local))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
