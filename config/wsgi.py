"""The web process: `gunicorn config.wsgi`."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

database = settings.DATABASES["default"]
database["OPTIONS"] = {
    # A database that is away without a word is given up after seconds, not minutes.
    "connect_timeout": 5,
    "tcp_user_timeout": (settings.WEB_STATEMENT_TIMEOUT_SECONDS + 5) * 1000,
    **database.get("OPTIONS", {}),
    # Only web requests are bounded this tightly: migrations and refreshes set their own limits.
    "options": f"-c statement_timeout={settings.WEB_STATEMENT_TIMEOUT_SECONDS}s -c lock_timeout=5s",
}
# It would cost every request a query; usage.api.authentication finds a connection that has ended.
database["CONN_HEALTH_CHECKS"] = False

application = get_wsgi_application()

from usage.services.startup import refuse_another_time_zone  # noqa: E402 - needs the apps loaded

refuse_another_time_zone()
