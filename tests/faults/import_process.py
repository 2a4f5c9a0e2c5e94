"""An import in a process of its own that is forked ready to begin, so that a kill meets the import
and not the start of Python.
"""

import os
from multiprocessing import get_context
from multiprocessing.process import BaseProcess

BATCH_LINES = 1_000


def import_in_small_batches(path: str) -> None:
    """Runs manage.py import_usage, which commits every thousand lines and not every 50,000."""
    from django.core.management import call_command

    from usage.services import imports

    imports.BATCH_LINES = BATCH_LINES
    call_command("import_usage", path)


def start_import(path: str) -> BaseProcess:
    """Start the import; the first call makes the process that the others are forked from."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.import_process"])
    process = context.Process(target=import_in_small_batches, args=[path], daemon=True)
    process.start()
    return process


if "DATABASE_URL" in os.environ:
    import django

    django.setup()
