"""The settings, for tests of clients that are waited for."""

from config.settings import *  # noqa: F403

DOWNLOAD_IDLE_SECONDS = 2
