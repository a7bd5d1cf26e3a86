"""Settings of the web house. Every value comes from the environment and has a default that works on a laptop.

`VARIABLES` is the whole list; a test compares it with the README. Nothing is written here except, once, the secret key.
"""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dj_database_url
from csp.constants import NONCE, NONE, SELF


@dataclass(frozen=True)
class Variable:
    """One environment variable: its name, what holds when it is not set, and what it does."""

    name: str
    default: str
    help: str


VARIABLES: tuple[Variable, ...] = (
    Variable("DIPTYCH_HOST", "127.0.0.1", "Address that the web server listens on."),
    Variable("DIPTYCH_PORT", "8000", "Port that the web server listens on."),
    Variable("DIPTYCH_HOME", "./var", "Folder of everything that Diptych keeps: models, database, bus, secret key."),
    Variable("DIPTYCH_TOKEN", "", "Token that signs the owner in. Not set: a new one at each start."),
    Variable("DIPTYCH_ALLOWED_HOSTS", "", "Further host names under which the page is opened, separated by commas."),
    Variable("DIPTYCH_HTTPS", "0", "1 behind a proxy that speaks HTTPS: cookies are sent over HTTPS alone."),
    Variable("DIPTYCH_DEBUG", "0", "1 shows Django's error pages. Never where others can reach it."),
    Variable("REDIS_URL", "", "A Redis or Valkey server. Not set: the bus that `make run` starts, in DIPTYCH_HOME."),
    Variable("DIPTYCH_QUEUE", "1000", "Runs that may wait for one base, half of them one person's."),
    Variable("DATABASE_URL", "", "A PostgreSQL database. Not set: SQLite in DIPTYCH_HOME."),
)
_DEFAULTS = {variable.name: variable.default for variable in VARIABLES}


def read(name: str) -> str:
    """Value of one of VARIABLES; an empty value counts as not set."""
    return os.environ.get(name, "").strip() or _DEFAULTS[name]


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _secret_key(home: Path) -> str:
    """The key in HOME, made on first use. Two processes that start at once agree, for only one can link it in."""
    path = home / "secret-key"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        draft = home / f"secret-key.{os.getpid()}"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(50))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text()


def _database(url: str, home: Path) -> dict[str, Any]:
    if url:
        return dict(dj_database_url.parse(url, conn_health_checks=True))
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(home / "diptych.sqlite3"),
        "OPTIONS": {
            # A deferred transaction that turns into a write ignores the busy timeout; an immediate one waits for it.
            "transaction_mode": "IMMEDIATE",
            "timeout": 5,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=5000;",
        },
    }


BASE_DIR = Path(__file__).resolve().parent.parent
DIPTYCH_HOME = Path(read("DIPTYCH_HOME")).expanduser().resolve()
DIPTYCH_HOST = read("DIPTYCH_HOST")
DIPTYCH_PORT = int(read("DIPTYCH_PORT"))
DIPTYCH_TOKEN = read("DIPTYCH_TOKEN")
DIPTYCH_QUEUE = max(1, int(read("DIPTYCH_QUEUE")))
REDIS_URL = read("REDIS_URL") or f"unix://{DIPTYCH_HOME}/bus.sock"

DEBUG = read("DIPTYCH_DEBUG") == "1"
SECRET_KEY = _secret_key(DIPTYCH_HOME)
# A fixed list and not '*', so that a foreign page cannot reach this server under a name of its own.
ALLOWED_HOSTS = [
    "127.0.0.1",
    "localhost",
    "[::1]",
    *([] if DIPTYCH_HOST in ("0.0.0.0", "::") else [f"[{DIPTYCH_HOST}]" if ":" in DIPTYCH_HOST else DIPTYCH_HOST]),
    *_listed(read("DIPTYCH_ALLOWED_HOSTS")),
]

INSTALLED_APPS = [
    "playground",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_htmx",
    "csp",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "playground.access.middleware.TokenSignIn",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "playground.urls"
ASGI_APPLICATION = "playground.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "csp.context_processors.nonce",
            ],
        },
    }
]

DATABASES = {"default": _database(read("DATABASE_URL"), DIPTYCH_HOME)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "playground.User"
AUTHENTICATION_BACKENDS = ["playground.access.signin.TokenBackend"]
LOGIN_URL = "/sign-in"
SESSION_COOKIE_NAME = f"diptych_{DIPTYCH_PORT}"  # cookies know no ports: two servers on one machine keep apart
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 30 * 24 * 3600
CSRF_COOKIE_NAME = f"diptych_csrf_{DIPTYCH_PORT}"
CSRF_COOKIE_SAMESITE = "Lax"

if read("DIPTYCH_HTTPS") == "1":
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SECURE_HSTS_SECONDS = 30 * 24 * 3600
    CSRF_TRUSTED_ORIGINS = [f"https://{host}" for host in _listed(read("DIPTYCH_ALLOWED_HOSTS"))]

X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, NONCE],
        "style-src": [SELF],
        "font-src": [SELF],
        "img-src": [SELF, "data:"],
        "connect-src": [SELF],
        "manifest-src": [SELF],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

STATIC_URL = "/static/"
STATIC_ROOT = DIPTYCH_HOME / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}

DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024  # a preset with a prompt of 200,000 characters, form-encoded
DATA_UPLOAD_MAX_NUMBER_FIELDS = 200
DATA_UPLOAD_MAX_NUMBER_FILES = 0
BODY_LIMIT = 3 * 1024 * 1024  # bytes of any request; larger ones are answered 413 before they are read

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
USE_I18N = False

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"playground": {"level": "INFO"}},
}
