"""Reads with 0, 1 and 2 replicas (needs wrk), and refreshes with raw records on a Citus cluster.

On one machine the servers share its cores. The figures show that results are equal and what a
server costs, not the gain of a second machine.
"""

import argparse

from benchmarks.spread_citus import measure_citus
from benchmarks.spread_replicas import measure_replicas
from benchmarks.wrk import find_wrk

PARTS = {"replicas": measure_replicas, "citus": measure_citus}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subscriptions", type=int, default=5_000)
    parser.add_argument("--open", type=int, default=50_000, help="raw records of each open day")
    parser.add_argument("--seconds", type=float, default=5, help="of each load")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))


def run(options: argparse.Namespace) -> dict[str, object]:
    """Run every part on its own servers."""
    if "replicas" in options.parts:
        find_wrk()
    figures: dict[str, object] = {}
    for part in options.parts:
        figures |= PARTS[part](options)
    return figures
