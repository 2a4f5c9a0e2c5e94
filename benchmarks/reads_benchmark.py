"""Reads of the API: time in the database, load over HTTP, and the cost for a refresh.

The data are totals of both types on every day of a month. The part `http` needs wrk.
"""

import argparse

from django.conf import settings

from benchmarks.database_time import measure_database_time
from benchmarks.http_load import measure_http
from benchmarks.period_ticks import measure_ticks
from benchmarks.read_data import stock_up
from benchmarks.serving import make_token
from benchmarks.wrk import find_wrk

PARTS = {"database": measure_database_time, "http": measure_http, "ticks": measure_ticks}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subscriptions", type=int, default=100_000)
    parser.add_argument("--raw", type=int, default=2_000_000, help="raw records of the month")
    parser.add_argument("--open", type=int, default=500_000, help="raw records of each open day")
    parser.add_argument("--plans", action="store_true", help="print the plans of the API")
    parser.add_argument("--seconds", type=float, default=6, help="of each load")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))


def run(options: argparse.Namespace) -> dict[str, object]:
    """Run all parts on the same data; return ratios first."""
    if "http" in options.parts:
        find_wrk()
    settings.USAGE_OPEN_DAYS = 2
    stock = stock_up(
        subscriptions=options.subscriptions, raw_records=options.raw, open_records=options.open
    )
    token = make_token()
    ratios: dict[str, object] = {}
    details: dict[str, object] = {}
    for part in options.parts:
        more_ratios, more_details = PARTS[part](options, stock, token)
        ratios |= more_ratios
        details |= more_details
    return ratios | details
