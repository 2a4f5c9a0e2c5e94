#!/usr/bin/env python
"""Run a management command: `manage.py help` lists them."""

import os
import sys

import django
from django.core.management import ManagementUtility, execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    if sys.argv[1:2] == ["version"]:
        # execute_from_command_line() runs a command of its own for this name.
        django.setup()
        ManagementUtility(sys.argv).fetch_command("version").run_from_argv(sys.argv)
    else:
        execute_from_command_line(sys.argv)
