"""Imports in forked processes that have loaded Python and Django already, so that a kill hits the
import and not the start of the process.
"""

import os
from multiprocessing import get_context
from multiprocessing.process import BaseProcess

BATCH_LINES = 1_000


def import_in_small_batches(path: str) -> None:
    """Run manage.py import_usage with a commit every thousand lines, not every 50,000."""
    from django.core.management import call_command

    from usage.services import imports

    imports.BATCH_LINES = BATCH_LINES
    call_command("import_usage", path)


def start_import(path: str) -> BaseProcess:
    """Start the import. The first call also starts the process from which all are forked."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.import_process"])
    process = context.Process(target=import_in_small_batches, args=[path], daemon=True)
    process.start()
    return process


if "DATABASE_URL" in os.environ:
    import django

    django.setup()
