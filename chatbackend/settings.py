"""Every setting, and the only reader of the environment. `.env.example` explains each one.

Each has a working default for a laptop or fails loudly. With nothing set, the database is the
embedded PostgreSQL and the models are local.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import environ
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from limits import RateLimitItem, parse

from chatbackend import embedded_postgres

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
environ.Env.read_env(BASE_DIR / ".env")

DEBUG = env.bool("DEBUG", default=False)
DEMO = env.bool("DEMO", default=False)  # the demo page with its customer picker; never on a public server
VAR = Path(env.str("VAR_DIR", default=str(BASE_DIR / "var")))


def laptop_secret(name: str, make: Any) -> str:
    """The variable `name`, or on a laptop (DEMO or DEBUG) one made once and kept under var/."""
    value = env.str(name, default="")
    if value:
        return value
    if not (DEMO or DEBUG):
        raise ImproperlyConfigured(f"{name} is not set (see .env.example)")
    kept = VAR / f"{name.lower()}.secret"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.touch(mode=0o600)
        kept.write_text(make())
    return kept.read_text()


def new_key() -> str:
    return Fernet.generate_key().decode()


SECRET_KEY = laptop_secret("SECRET_KEY", new_key)
SECRET_SEALING_KEYS = laptop_secret("SECRET_SEALING_KEYS", new_key).split(",")

# --- who may reach us ---------------------------------------------------------------------

ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
SECURE = env.bool("SECURE", default=not (DEMO or DEBUG))  # served over HTTPS
SECURE_SSL_REDIRECT = SECURE
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env.bool("BEHIND_PROXY", default=False) else None
SECURE_HSTS_SECONDS = 31_536_000 if SECURE else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE
SECURE_HSTS_PRELOAD = SECURE
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
X_FRAME_OPTIONS = "DENY"

# --- the application ----------------------------------------------------------------------

INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "chatbackend.apps.TenantAdminConfig",
    "channels",
    "procrastinate.contrib.django",
    "drf_spectacular",
    "accounts",
    "cascade",
    "chatbackend.apps.ChatbackendConfig",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "chatbackend.urls"
ASGI_APPLICATION = "chatbackend.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
AUTH_USER_MODEL = "accounts.User"
LOGIN_REDIRECT_URL = "admin:index"  # for who went to the login page itself
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en"
FORMAT_MODULE_PATH = ["chatbackend.formats"]
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = VAR / "static"
WHITENOISE_USE_FINDERS = True
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576

# --- the database: PostgreSQL, as the app role; migrations run as its owner ------------------

EMBEDDED_DATABASE = not env.str("DATABASE_URL", default="")
DATABASE_POOL_SIZE = env.int("DATABASE_POOL_SIZE", default=10)  # connections, and threads, of sockets and turns
HTTP_CONNECTIONS = 5  # on top, for pages and the health check
STATEMENT_SECONDS = 15  # then the database ends a statement, save those that read a whole month of the books


def databases() -> dict[str, dict[str, Any]]:
    if EMBEDDED_DATABASE:
        urls = embedded_postgres.ensure_running(VAR, lambda line: print(line, file=sys.stderr))
        app, owner = urls.app, urls.owner
    else:
        app, owner = env.str("DATABASE_URL"), env.str("DATABASE_OWNER_URL", default="")
        if not owner:
            raise ImproperlyConfigured(
                "DATABASE_OWNER_URL is not set: another role than DATABASE_URL's owns the tables"
            )
    default = env.db_url_config(app) | {"CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": True}
    pool = {"min_size": 1, "max_size": DATABASE_POOL_SIZE + HTTP_CONNECTIONS, "timeout": 5}
    limits = {"options": f"-c statement_timeout={STATEMENT_SECONDS}s"}
    default["OPTIONS"] = limits | default.get("OPTIONS", {}) | {"pool": pool, "connect_timeout": 5}
    return {"default": default, "owner": env.db_url_config(owner)}


DATABASES = databases()

# --- mail: to those who answer for a budget ----------------------------------------------------

vars().update(env.email_url_config(env.str("EMAIL_URL", default="") or "dummymail://"))  # without it: to nobody
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.str("MAIL_FROM", default="chat@localhost")

# --- sockets and background work -----------------------------------------------------------

REDIS_URL = env.str("REDIS_URL", default="")
REDIS = {"address": REDIS_URL, "socket_timeout": 10}  # the layer waits 5 s for a message
CHANNEL_LAYERS = {  # no "default": Channels would end every socket whose layer fails
    "typing": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [REDIS], "expiry": 12, "group_expiry": 120},
    }
    if REDIS_URL
    else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
}

# --- how much may be sent (accounts.limits) --------------------------------------------------


def rate(name: str, default: str) -> RateLimitItem | None:
    """`30/minute`, `1000/hour` ...; None, where it is set to nothing: no limit."""
    told = env.str(name, default=default)
    try:
        return parse(told) if told else None
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be like {default}, not {told!r}") from None


RATE_CUSTOMER = rate("RATE_CUSTOMER", "30/minute")  # messages
RATE_ADDRESS = rate("RATE_ADDRESS", "600/minute")  # messages; an office or a mobile network shares one
RATE_TENANT = rate("RATE_TENANT", "3000/minute")  # messages
RATE_NEWCOMERS = rate("RATE_NEWCOMERS", "60/hour")  # new visitors of one address

# --- the REST API ---------------------------------------------------------------------------

RATE_API = rate("RATE_API", "600/minute")  # of one API key or member
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.rest.callers.KeyAuthentication",
        "accounts.rest.callers.MemberAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": [],  # rights are a table: accounts.permissions
    "DEFAULT_RENDERER_CLASSES": ["accounts.rest.bodies.JSONAnswer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "accounts.rest.bodies.JSONAlone",
    "DEFAULT_PARSER_CLASSES": ["accounts.rest.bodies.JSONBody"],
    "DEFAULT_FILTER_BACKENDS": ["accounts.rest.lists.Filters"],
    "DEFAULT_SCHEMA_CLASS": "accounts.rest.schema.Schema",
    "EXCEPTION_HANDLER": "accounts.rest.problems.handle",
    "UNAUTHENTICATED_USER": None,
    "COERCE_DECIMAL_TO_STRING": True,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Frugal chat",
    "VERSION": "1",
    "DESCRIPTION": "What the API has in common, with an example for each resource: docs/api.md.",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1/",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "MemberRole": "accounts.models.Member.Role",
        "MessageRole": "cascade.models.Message.Role",
        "UploadState": "cascade.models.Upload.State",
        "SavedReplyState": "cascade.models.SavedReply.State",
        "ProposalState": "cascade.models.Proposal.State",
        "ShadowTrialState": "cascade.models.ShadowTrial.State",
    },
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "accounts.rest.schema.finish"],
}

# --- the admin pages: how they look --------------------------------------------------------

UNFOLD = {
    "SITE_TITLE": "Frugal chat",
    "SITE_HEADER": "Frugal chat",
    "SITE_SYMBOL": "forum",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda request: "/static/favicon.svg"}],
    "STYLES": [lambda request: "/static/admin.css"],
    "SCRIPTS": [lambda request: "/static/admin.js"],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "COLORS": {
        "primary": {
            "50": "oklch(97.5% .014 190)",
            "100": "oklch(94% .03 190)",
            "200": "oklch(88% .055 190)",
            "300": "oklch(80% .08 190)",
            "400": "oklch(70% .095 190)",
            "500": "oklch(58% .09 190)",
            "600": "oklch(49% .08 190)",
            "700": "oklch(42% .07 190)",
            "800": "oklch(36% .06 190)",
            "900": "oklch(31% .05 190)",
            "950": "oklch(22% .04 190)",
        }
    },
}

# --- models and the scorer ------------------------------------------------------------------

OPENAI_API_KEY = env.str("OPENAI_API_KEY", default="")
ANTHROPIC_API_KEY = env.str("ANTHROPIC_API_KEY", default="")
OPENAI_BASE_URL = env.str("OPENAI_BASE_URL", default="")  # empty: the provider's own
ANTHROPIC_BASE_URL = env.str("ANTHROPIC_BASE_URL", default="")
MODELS_ROOT = Path(env.str("MODELS_ROOT", default=str(BASE_DIR / "var/models")))  # where fetch_models puts them
SCORER_WEIGHTS = Path(env.str("SCORER_WEIGHTS", default=str(BASE_DIR / "cascade/scorer/weights")))
SCORER_DEADLINE_SECONDS = env.float("SCORER_DEADLINE_SECONDS", default=5.0)
PROMPT_TOKEN_BUDGET = env.int("PROMPT_TOKEN_BUDGET", default=2500)
PRIVATE_RECORD_SOURCES = env.bool("PRIVATE_RECORD_SOURCES", default=DEMO)  # may a record source be a private address?

# --- the demo ---------------------------------------------------------------------------------

DEMO_SMALL_MODEL = env.str("DEMO_SMALL_MODEL", default="")  # empty: the measured choice
WEB_PORT = env.int("WEB_PORT", default=8000)

# --- logs: to standard error, nothing personal in them ---------------------------------------------

LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {
            "()": "chatbackend.reporting.WithoutWords",
            "format": "%(asctime)s %(levelname)s %(name)s %(message)s",
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    # One line a request each, addresses and all.
    "loggers": {name: {"level": "WARNING"} for name in ("httpx", "httpx2", "httpcore", "openai", "anthropic")},
}
