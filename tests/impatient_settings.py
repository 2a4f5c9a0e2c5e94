"""Settings for tests of slow clients: the server closes an idle download after 2 seconds."""

from config.settings import *  # noqa: F403

DOWNLOAD_IDLE_SECONDS = 2
