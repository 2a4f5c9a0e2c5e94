"""Settings for tests of servers that hang: statements have time limits of seconds."""

from config.settings import *  # noqa: F403

WEB_STATEMENT_TIMEOUT_SECONDS = 2
DOWNLOAD_STATEMENT_TIMEOUT_SECONDS = 4
