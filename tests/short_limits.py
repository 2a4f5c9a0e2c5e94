"""The settings, for tests of servers that stand still: statements have seconds."""

from config.settings import *  # noqa: F403

WEB_STATEMENT_TIMEOUT_SECONDS = 2
DOWNLOAD_STATEMENT_TIMEOUT_SECONDS = 4
