"""Settings of the project. Every value that differs between deployments is read here."""

from datetime import timedelta

from csp import constants as csp
from django.core.exceptions import ImproperlyConfigured

from config import environment, logs
from usage import __version__

DEBUG = environment.flag("DJANGO_DEBUG")

DEVELOPMENT_SECRET_KEY = "development-only-never-in-production"  # noqa: S105 - refused below
SECRET_KEY = environment.text("DJANGO_SECRET_KEY", DEVELOPMENT_SECRET_KEY if DEBUG else None)
if not DEBUG and (SECRET_KEY == DEVELOPMENT_SECRET_KEY or len(SECRET_KEY) < 32):
    raise ImproperlyConfigured(
        "DJANGO_SECRET_KEY is a development secret or shorter than 32 characters. Make one with: "
        "python -c 'import secrets; print(secrets.token_urlsafe(50))'"
    )

ALLOWED_HOSTS = environment.items("DJANGO_ALLOWED_HOSTS") or ["127.0.0.1", "localhost"]
if not DEBUG and "*" in ALLOWED_HOSTS:
    raise ImproperlyConfigured(
        "DJANGO_ALLOWED_HOSTS='*' accepts every host name. List the host names that clients use."
    )

# The read model.
USAGE_TIME_ZONE = environment.time_zone("USAGE_TIME_ZONE", "UTC")
USAGE_CURRENCY = environment.currency("USAGE_CURRENCY", "USD")
USAGE_REFRESH_SECONDS = environment.integer("USAGE_REFRESH_SECONDS", 60, least=1, most=86_400)
USAGE_MAX_AGE_SECONDS = environment.integer("USAGE_MAX_AGE_SECONDS", 180, least=1, most=604_800)
USAGE_REFRESH_TIMEOUT_SECONDS = environment.integer(
    "USAGE_REFRESH_TIMEOUT_SECONDS", 900, least=1, most=86_400
)
# If unset, no day is sealed, the materialized view has every day and raw records stay.
USAGE_OPEN_DAYS = environment.optional_integer("USAGE_OPEN_DAYS", least=1, most=366)
USAGE_RAW_RETENTION_DAYS = environment.optional_integer(
    "USAGE_RAW_RETENTION_DAYS", least=1, most=36_500
)
USAGE_TOTALS_RETENTION_DAYS = environment.optional_integer(
    "USAGE_TOTALS_RETENTION_DAYS", least=1, most=36_500
)
# Older days share one partition, because a refresh locks every partition.
USAGE_PARTITION_DAYS = environment.integer("USAGE_PARTITION_DAYS", 400, least=1, most=400)
# With "triggers", triggers log the late keys. With "window" there are no late keys: every day whose
# raw records are kept is open.
USAGE_LATE_KEYS = environment.choice("USAGE_LATE_KEYS", "triggers", "window")
if USAGE_LATE_KEYS == "window":
    if (USAGE_OPEN_DAYS or USAGE_RAW_RETENTION_DAYS) != (
        USAGE_RAW_RETENTION_DAYS or USAGE_OPEN_DAYS
    ):
        raise ImproperlyConfigured(
            f"USAGE_OPEN_DAYS={USAGE_OPEN_DAYS} and USAGE_RAW_RETENTION_DAYS="
            f"{USAGE_RAW_RETENTION_DAYS} differ, but with USAGE_LATE_KEYS=window every day with "
            "raw records is open. Set one of them, or both to the same number."
        )
    USAGE_OPEN_DAYS = USAGE_RAW_RETENTION_DAYS = USAGE_OPEN_DAYS or USAGE_RAW_RETENTION_DAYS
if USAGE_OPEN_DAYS is None:
    if USAGE_RAW_RETENTION_DAYS or USAGE_TOTALS_RETENTION_DAYS:
        raise ImproperlyConfigured(
            "USAGE_RAW_RETENTION_DAYS and USAGE_TOTALS_RETENTION_DAYS need sealed days. Set "
            "USAGE_OPEN_DAYS too, for example to 2, or unset them."
        )
else:
    USAGE_RAW_RETENTION_DAYS = USAGE_RAW_RETENTION_DAYS or max(35, USAGE_OPEN_DAYS)
    if USAGE_RAW_RETENTION_DAYS < USAGE_OPEN_DAYS:
        raise ImproperlyConfigured(
            f"USAGE_RAW_RETENTION_DAYS={USAGE_RAW_RETENTION_DAYS} is shorter than "
            f"USAGE_OPEN_DAYS={USAGE_OPEN_DAYS}: open days need their raw records. Raise it."
        )
    if (USAGE_TOTALS_RETENTION_DAYS or USAGE_RAW_RETENTION_DAYS) < USAGE_RAW_RETENTION_DAYS:
        raise ImproperlyConfigured(
            f"USAGE_TOTALS_RETENTION_DAYS={USAGE_TOTALS_RETENTION_DAYS} is shorter than "
            f"USAGE_RAW_RETENTION_DAYS={USAGE_RAW_RETENTION_DAYS}: totals outlive raw records. "
            "Raise it or unset it."
        )

# Probes and Prometheus send plain http from behind the proxy.
SECURE_REDIRECT_EXEMPT = [r"^health/", r"^metrics$"]
# The token with which Prometheus reads /metrics. If unset, /metrics is closed.
USAGE_METRICS_TOKEN = environment.optional_secret("USAGE_METRICS_TOKEN", least=20)

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "drf_standardized_errors",
    "axes",
    "csp",
    "usage",
    "usage.dashboard",
]
MIDDLEWARE = [
    # Outermost, so that it sees every response.
    "usage.monitoring.request_log.Observed",
    "usage.api.redirects.KeepMethod",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "usage.api.sessions.PeoplesSessions",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "usage.api.policies.PagesPolicy",
    # Innermost: it replaces the response of a login.
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# The web process serves static files from the packages: no collectstatic, and no files on a proxy.
# A change of a file needs a restart.
STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True

# No page accepts a file: Django skips an uploaded one and keeps it neither in memory nor on disk.
FILE_UPLOAD_HANDLERS: list[str] = []

# People sign in once a working day.
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "login"
SESSION_COOKIE_AGE = 12 * 60 * 60
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# The number of trusted reverse proxies; the last of them reports the address of the client.
DJANGO_PROXIES = environment.integer("DJANGO_PROXIES", 0, least=0, most=5)

# Limits of requests to the API: with one token, and from one address.
USAGE_TOKEN_REQUESTS_PER_MINUTE = environment.integer(
    "USAGE_TOKEN_REQUESTS_PER_MINUTE", 3000, least=1, most=1_000_000_000
)
USAGE_ADDRESS_REQUESTS_PER_MINUTE = environment.integer(
    "USAGE_ADDRESS_REQUESTS_PER_MINUTE", 6000, least=1, most=1_000_000_000
)

# After 10 wrong passwords, for any user names, an address must wait before the next attempt.
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = timedelta(minutes=10)
AXES_LOCKOUT_PARAMETERS = ["ip_address"]
AXES_HANDLER = "usage.api.lockout.Failures"
AXES_RESET_ON_SUCCESS = True
# Attempts during the wait are not stored: each would add its text to the row of the failures.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_VERBOSE = False
AXES_DISABLE_ACCESS_LOG = True
AXES_CLIENT_IP_CALLABLE = "usage.addresses.client_network"
AXES_LOCKOUT_CALLABLE = "usage.api.lockout.locked_out"

# Pages load scripts, styles and images from this server alone, and run no inline code.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [csp.SELF],
        "img-src": [csp.SELF, "data:"],
        "object-src": [csp.NONE],
        "base-uri": [csp.NONE],
        "form-action": [csp.SELF],
        "frame-ancestors": [csp.NONE],
    }
}
X_FRAME_OPTIONS = "DENY"

# Cookies and responses use https alone; the proxy ends TLS.
IS_HTTPS = not (DEBUG or environment.flag("DJANGO_PLAIN_HTTP"))
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = IS_HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if IS_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = IS_HTTPS
# W021 asks for HSTS preload, which the owner of the domain decides.
SILENCED_SYSTEM_CHECKS = ["security.W021"]

DATABASES = {
    "default": environment.database("DATABASE_URL"),
    **environment.replicas("DATABASE_REPLICA_URL"),
}
DATABASE_ROUTERS = ["usage.database.routing.Router"]
# If DATABASE_DIRECT_URL is set, DATABASE_URL is a pool in transaction mode. Only the web process
# can use such a pool (config/wsgi.py); all others connect directly.
DATABASE_POOL = None
if (direct := environment.optional_database("DATABASE_DIRECT_URL")) is not None:
    DATABASE_POOL, DATABASES["default"] = DATABASES["default"], direct
    # Both addresses may use the same role, which then has the limits of web requests.
    direct["OPTIONS"] = {"options": "-c statement_timeout=0 -c lock_timeout=0"} | direct.get(
        "OPTIONS", {}
    )

# The longest statement of a web request.
WEB_STATEMENT_TIMEOUT_SECONDS = 15

# Limits of a CSV download: a statement, a client that reads nothing, and the whole download.
DOWNLOAD_STATEMENT_TIMEOUT_SECONDS = 60
DOWNLOAD_IDLE_SECONDS = 60
DOWNLOAD_SECONDS = 600
# A slow download occupies its thread, so the other threads are reserved for pages.
DOWNLOADS_PER_PROCESS = 2

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False

REDIS_URL = environment.broker("REDIS_URL")

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "usage.api.authentication.KeyAuthentication",
        "usage.api.authentication.PersonAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["usage.api.permissions.NobodyMay"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "usage.api.negotiation.Negotiation",
    "DEFAULT_PARSER_CLASSES": ["usage.api.bodies.ShortJson"],
    "DEFAULT_SCHEMA_CLASS": "usage.api.schema.inspector.EndpointSchema",
    "EXCEPTION_HANDLER": "usage.api.error_responses.handle",
    "COERCE_DECIMAL_TO_STRING": True,
    # `format` is a parameter of lists, which refuse an unknown value.
    "URL_FORMAT_OVERRIDE": None,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Usage",
    "VERSION": __version__,
    "DESCRIPTION": "Totals of usage and price by subscription, day and usage type. Every response "
    "has `as_of`: every record committed by then is in it. Money is a string, never rounded. Paths "
    "end with a slash, except those that end with .csv; a path without its slash is redirected by "
    "a 308, which keeps the method. If the address has more than 8190 bytes, or the headers are "
    "too large, the web server itself responds with 414 or 431, in HTML. docs/api.md has examples.",
    "OAS_VERSION": "3.1.0",
    "LICENSE": {"name": "MIT", "identifier": "MIT"},
    "CONTACT": {"name": "The operator of this server, who also makes tokens"},
    "SERVERS": [{"url": "/", "description": "The server that sent this description."}],
    "TAGS": [
        {"name": "Usage", "description": "Totals of usage, and the records behind them."},
        {"name": "Subscriptions", "description": "The subscriptions that usage is charged to."},
        {"name": "Refreshes", "description": "The refreshes of the totals."},
        {
            "name": "Description",
            "description": "The endpoints of the API, for people and programs.",
        },
    ],
    # Swagger UI comes from this server, and no validator elsewhere gets the description.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None},
    "SORT_OPERATION_PARAMETERS": False,
    "POSTPROCESSING_HOOKS": [],
    "SCHEMA_PATH_PREFIX": "/api/v1",
}

LOGGING = logs.settings(
    is_readable=DEBUG,
    secrets=[
        SECRET_KEY,
        USAGE_METRICS_TOKEN,
        *(address["PASSWORD"] for address in [*DATABASES.values(), DATABASE_POOL] if address),
        logs.password_in(REDIS_URL),
    ],
)
