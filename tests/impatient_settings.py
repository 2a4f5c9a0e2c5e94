"""The settings, for tests of clients and servers that are waited for."""

from config.settings import *  # noqa: F403

DOWNLOAD_IDLE_SECONDS = 2

WEB_STATEMENT_TIMEOUT_SECONDS = 2
DOWNLOAD_STATEMENT_TIMEOUT_SECONDS = 4
