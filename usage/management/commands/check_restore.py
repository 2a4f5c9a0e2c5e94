from typing import Any

from django.core.management.base import CommandError

from usage.management.usage_command import UsageCommand
from usage.services.audit.restores import check_restore


class Command(UsageCommand):
    help = (
        "List what is left to do after a restore, an upgrade of the server or a failover, in "
        "order. Run it before you start writers and workers. It changes nothing, and exits 1 when "
        "something is left to do. "
        "Example: manage.py check_restore"
    )

    def handle(self, *_args: Any, **_options: Any) -> None:
        findings = check_restore()
        for number, finding in enumerate(findings, 1):
            self.stdout.write(f"{number}. {finding.problem}")
            self.stdout.write(f"   Next step: {finding.step}")
        if findings:
            raise CommandError(
                f"{len(findings)} {'thing is' if len(findings) == 1 else 'things are'} left to do. "
                "Take the first step and run check_restore again."
            )
        self.stdout.write("Nothing is left to do: start workers and writers.")
