"""The web process: `gunicorn config.wsgi`."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# Only web requests are bounded this tightly: migrations and refreshes set their own limits.
settings.DATABASES["default"].setdefault("OPTIONS", {})["options"] = (
    f"-c statement_timeout={settings.WEB_STATEMENT_TIMEOUT_SECONDS}s -c lock_timeout=5s"
)

application = get_wsgi_application()

from usage.services.startup import refuse_another_time_zone  # noqa: E402 - needs the apps loaded

refuse_another_time_zone()
