"""The settings of the project with the bare views of benchmarks/bare.py in place of its API."""

from config.settings import *  # noqa: F403 - all of them, so that only the views differ

ROOT_URLCONF = "benchmarks.bare"
