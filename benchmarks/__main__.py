"""python -m benchmarks NAME: runs the module NAME_benchmark of this package."""

import argparse
import importlib
import json
import logging
import os
import pkgutil
from pathlib import Path
from types import ModuleType

import django

import benchmarks

SUFFIX = "_benchmark"


def modules() -> dict[str, ModuleType]:
    """Return the benchmarks by name. Each has add_arguments(parser) and run(options) -> dict; the
    figures of the dict are printed in its order, ratios first."""
    return {
        info.name.removesuffix(SUFFIX): importlib.import_module(f"benchmarks.{info.name}")
        for info in pkgutil.iter_modules(benchmarks.__path__)
        if info.name.endswith(SUFFIX)
    }


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    # The log lines of refreshes and requests in this process would hide the figures.
    logging.disable(logging.INFO)
    from benchmarks.machine import describe
    from benchmarks.throwaway import throwaway_database

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure on a new database on the server of DATABASE_URL, and drop it "
        "afterwards. Example: python -m benchmarks imports --json imports.json",
    )
    commands = parser.add_subparsers(dest="name", required=True)
    known = modules()
    for name, module in known.items():
        command = commands.add_parser(name, help=module.__doc__, description=module.__doc__)
        command.add_argument("--rounds", type=int, default=5, help="figures are medians of these")
        command.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")
        module.add_arguments(command)
    options = parser.parse_args()
    with throwaway_database():
        result = {"machine": describe(), options.name: known[options.name].run(options)}
    for part, figures in result.items():
        print(f"{part}:")
        for name, value in figures.items():
            print(f"  {name}: {value}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
