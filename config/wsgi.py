"""The web process: `gunicorn config.wsgi`."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from usage.services.silence import GRACE_SECONDS, give_up_silent_servers

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

if settings.DATABASE_POOL is not None:
    settings.DATABASES["default"] = settings.DATABASE_POOL
for alias, database in settings.DATABASES.items():
    database["OPTIONS"] = {
        # A database that is away without a word is given up after seconds, not minutes; a replica
        # sooner, as another server is asked then.
        "connect_timeout": 5 if alias == "default" else 2,
        "tcp_user_timeout": (settings.WEB_STATEMENT_TIMEOUT_SECONDS + GRACE_SECONDS) * 1000,
        # Also of one that went while it was computing: without probes nobody would ask.
        "keepalives_idle": settings.WEB_STATEMENT_TIMEOUT_SECONDS,
        "keepalives_interval": 5,
        **database.get("OPTIONS", {}),
    }
    if settings.DATABASE_POOL is None:
        # Only web requests are bounded this tightly: migrations and refreshes set their own limits.
        database["OPTIONS"]["options"] = (
            f"-c statement_timeout={settings.WEB_STATEMENT_TIMEOUT_SECONDS}s -c lock_timeout=5s"
        )
    else:
        # A pool knows no such options: the role has to bring them, see below.
        database["DISABLE_SERVER_SIDE_CURSORS"] = True
    # It would cost every request a query; usage.services.servers finds a connection that has ended.
    database["CONN_HEALTH_CHECKS"] = False

application = get_wsgi_application()

from usage.services import startup  # noqa: E402 - needs the apps loaded

give_up_silent_servers()
startup.refuse_other_settings()
if settings.DATABASE_POOL is not None:
    startup.refuse_statements_without_limit()
