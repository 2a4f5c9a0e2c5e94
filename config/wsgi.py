"""The web process: `gunicorn config.wsgi`."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from usage.database.read_timeout import GRACE_SECONDS, give_up_silent_servers

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

if settings.DATABASE_POOL is not None:
    settings.DATABASES["default"] = settings.DATABASE_POOL
for alias, database in settings.DATABASES.items():
    database["OPTIONS"] = {
        # Without these a connection to a server that hangs takes minutes to fail. The limit of a
        # replica is shorter, because the query then goes to another server.
        "connect_timeout": 5 if alias == "default" else 2,
        "tcp_user_timeout": (settings.WEB_STATEMENT_TIMEOUT_SECONDS + GRACE_SECONDS) * 1000,
        # TCP probes detect a server that vanished during a query, when the client sends nothing.
        "keepalives_idle": settings.WEB_STATEMENT_TIMEOUT_SECONDS,
        "keepalives_interval": 5,
        **database.get("OPTIONS", {}),
    }
    if settings.DATABASE_POOL is None:
        # Only web requests have these limits: migrations and refreshes set their own.
        database["OPTIONS"]["options"] = (
            f"-c statement_timeout={settings.WEB_STATEMENT_TIMEOUT_SECONDS}s -c lock_timeout=5s"
        )
    else:
        # A pool refuses startup options: the role must have the limits, which is checked below.
        database["DISABLE_SERVER_SIDE_CURSORS"] = True
    # This check would cost each request a query; usage.database.routing detects a dead connection.
    database["CONN_HEALTH_CHECKS"] = False

application = get_wsgi_application()

from usage.database import startup  # noqa: E402 - needs the apps loaded

give_up_silent_servers()
startup.refuse_other_settings()
if settings.DATABASE_POOL is not None:
    startup.refuse_statements_without_limit()
