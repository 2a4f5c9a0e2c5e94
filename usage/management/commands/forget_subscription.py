from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from usage.management.usage_command import UsageCommand
from usage.services.accounts.erasure import find, forget_subscription

ELSEWHERE = """This command does not reach other places that may hold the old external_id:
- backups and the archive of the write-ahead log, until they expire;
- imported files, files with their rejected lines, and exports;
- logs of the proxy and of the database server, and copies of analysts and clients;
- ids of imported records, which are hashes of it: nobody can read it from them, but anybody who
  knows it can compute the same ids.
An import of a file with the old external_id makes a new subscription."""


class Command(UsageCommand):
    help = (
        "Replace the external_id of a subscription by a random one, for good: for a customer who "
        "wants to be forgotten. Records and totals stay under the same subscription_id. "
        "Example: manage.py forget_subscription 00441632960001 --dry-run"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("subscription", help="its external_id or its id")
        parser.add_argument("--dry-run", action="store_true", help="say what would be changed")
        parser.add_argument("--yes", action="store_true", help="don't ask whether you are sure")

    def handle(self, *_args: Any, **options: Any) -> None:
        subscription = find(options["subscription"])
        name = f"subscription {subscription.pk}, external_id {subscription.external_id!r}"
        if options["dry_run"]:
            self.stdout.write(f"Would forget the external_id of {name}.")
        else:
            if not options["yes"]:
                _confirm(f"Forget the external_id of {name}? It can't be undone. [yes/no] ")
            forgotten = forget_subscription(subscription)
            self.stdout.write(
                f"Subscription {forgotten.subscription_id} is now {forgotten.external_id}. Its "
                "records and totals are as they were."
            )
        if subscription.owner_id is not None:
            self.stdout.write("The account of its owner stays.")
        self.stdout.write(ELSEWHERE)


def _confirm(question: str) -> None:
    try:
        answer = input(question)
    except EOFError:
        answer = ""
    if answer.strip().lower() != "yes":
        raise CommandError("Nothing was changed. Answer yes, or say --yes.")
