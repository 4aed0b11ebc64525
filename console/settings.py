"""Settings of one core. Everything that differs between cores comes from the environment."""

import hashlib
import secrets
from pathlib import Path

from console.environment import (
    database_from_url,
    env_bool,
    env_int,
    env_networks,
    env_path,
    env_paths,
    env_secret,
    env_str,
    private_folder,
)
from console.pace import every

BASE_DIR = Path(__file__).resolve().parent.parent

UNDERSTUDY_HOME = private_folder(
    Path(env_str("UNDERSTUDY_HOME", str(BASE_DIR / ".understudy"))).resolve()
)
UNDERSTUDY_CORE_NAME = env_str("UNDERSTUDY_CORE_NAME", "This core")
# How other cores reach this one: its address, and the TLS port of the core interface.
UNDERSTUDY_ADDRESS = env_str("UNDERSTUDY_ADDRESS", "127.0.0.1")
UNDERSTUDY_CORE_PORT = env_int("UNDERSTUDY_CORE_PORT", 8001)
# How protected machines reach this one; empty: by the address that it calls them from.
UNDERSTUDY_HOST_FOR_MACHINES = env_str("UNDERSTUDY_HOST_FOR_MACHINES")
# How much space to keep free on the store's file system; 0 leaves it to the store.
UNDERSTUDY_STORE_RESERVE_BYTES = env_int("UNDERSTUDY_STORE_RESERVE_BYTES", 0)
# Folders that may contain archives and seed drives; none: anywhere but this core's own files.
UNDERSTUDY_ARCHIVE_ROOTS = env_paths("UNDERSTUDY_ARCHIVE_ROOTS")
# The ISO that Settings offers for download.
UNDERSTUDY_RESCUE_MEDIUM = env_path(
    "UNDERSTUDY_RESCUE_MEDIUM", UNDERSTUDY_HOME / "understudy-rescue.iso"
)

_secret_file = UNDERSTUDY_HOME / "secret-key"
if not _secret_file.exists():
    _secret_file.touch(mode=0o600)
    _secret_file.write_text(secrets.token_urlsafe(50))
SECRET_KEY = env_secret("UNDERSTUDY_SECRET_KEY", _secret_file)
DEBUG = env_bool("UNDERSTUDY_DEBUG", False)
# Proxies whose X-Forwarded-For is believed.
UNDERSTUDY_TRUSTED_PROXIES = env_networks("UNDERSTUDY_TRUSTED_PROXIES")
ALLOWED_HOSTS = env_str("UNDERSTUDY_ALLOWED_HOSTS", "127.0.0.1,localhost,testserver").split(",")

INSTALLED_APPS = [
    "django.forms",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_htmx",
    "template_partials",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "console",
    "console.audit",
    "console.jobs",
    "console.accounts",
    "protected_machines",
    "replication",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "console.middleware.content_security_policy",
    "console.middleware.fragments",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "console.audit.middleware.site_door",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "console.accounts.middleware.SecondFactorMiddleware",
    "console.accounts.middleware.RulesMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
]

ROOT_URLCONF = "console.urls"
WSGI_APPLICATION = "console.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "console.context.frame",
                "protected_machines.navigation.navigation",
            ],
        },
    }
]

DATABASES = {
    "default": database_from_url(
        env_str("DATABASE_URL", f"sqlite://{UNDERSTUDY_HOME / 'core.sqlite3'}")
    )
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
# Where browsers reach the console, for links that commands print.
UNDERSTUDY_CONSOLE_URL = env_str("UNDERSTUDY_CONSOLE_URL")
# Whether everyone has to set up a second factor before anything else.
UNDERSTUDY_SECOND_FACTOR_REQUIRED = env_bool("UNDERSTUDY_SECOND_FACTOR_REQUIRED", False)
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
ACCOUNT_ADAPTER = "console.accounts.adapter.AccountAdapter"
ACCOUNT_FORMS = {
    "login": "console.accounts.forms.SignInForm",
    "change_password": "console.accounts.forms.PasswordForm",
    "reauthenticate": "console.accounts.forms.ConfirmForm",
}
MFA_FORMS = {
    "authenticate": "console.accounts.forms.CodeForm",
    "reauthenticate": "console.accounts.forms.ConfirmCodeForm",
    "activate_totp": "console.accounts.forms.ActivateForm",
}
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_EMAIL_NOTIFICATIONS = False
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
# Signed in until the browser closes, and for a working day at most.
ACCOUNT_SESSION_REMEMBER = False
ACCOUNT_REAUTHENTICATION_TIMEOUT = 900
# Those of allauth lock an account everywhere, and for a fixed time: console/accounts/limits.py.
ACCOUNT_RATE_LIMITS = False
MFA_ALLOW_UNVERIFIED_EMAIL = True
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_TOTP_ISSUER = f"Understudy {UNDERSTUDY_CORE_NAME}"
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
FORM_RENDERER = "console.forms.ConsoleFormRenderer"
CSRF_FAILURE_VIEW = "console.errors.csrf_failed"
# Shared by this core's processes. It does not use Redis, which may be down.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": UNDERSTUDY_HOME / "cache",
    }
}

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Served from the source folders: there is nothing to collect after an update.
WHITENOISE_USE_FINDERS = True

REDIS_URL = env_str("REDIS_URL", "redis://127.0.0.1:6379/0")
CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_DEFAULT_QUEUE = "control"
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# Nothing is kept over a restart: times kept from before the clock was set back would stop tasks.
CELERY_BEAT_SCHEDULER = "celery.beat:Scheduler"
# Workers wait for a lost broker for ever. A sender of wake-ups gives up right away instead: the
# rescuer sends them again. Deliveries that a dead worker held come back only after a day: the
# rescuer is faster, and a long copy must not be delivered twice in the meantime.
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 86_400,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "health_check_interval": 10,
    "max_retries": 1,
    "interval_start": 0,
    "interval_max": 0.5,
}
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_BEAT_SCHEDULE: dict[str, dict[str, object]] = {
    "protected_machines.start_due_snapshots": {
        "task": "protected_machines.start_due_snapshots",
        "schedule": every(5),
        "options": {"queue": "control", "expires": 5},
    },
    "jobs.prune_jobs": {
        "task": "jobs.prune_jobs",
        "schedule": every(3600),
        "options": {"queue": "control", "expires": 3600},
    },
    "protected_machines.refresh_connections": {
        "task": "protected_machines.refresh_connections",
        "schedule": every(10),
        "options": {"queue": "control", "expires": 10},
    },
    "protected_machines.prove_points": {
        "task": "protected_machines.prove_points",
        "schedule": every(30),
        "options": {"queue": "transfer", "expires": 30},
    },
    "protected_machines.reindex_store": {
        "task": "protected_machines.reindex_store",
        "schedule": every(120),
        "options": {"queue": "transfer", "expires": 60},
    },
    "protected_machines.find_stray_vms": {
        "task": "protected_machines.find_stray_vms",
        "schedule": every(300),
        "options": {"queue": "control", "expires": 300},
    },
    "protected_machines.expire_unfinished": {
        "task": "protected_machines.expire_unfinished",
        "schedule": every(3600),
        "options": {"queue": "transfer", "expires": 3600},
    },
    "replication.start_due_replications": {
        "task": "replication.start_due_replications",
        "schedule": every(10),
        "options": {"queue": "control", "expires": 10},
    },
    "replication.refresh_cores": {
        "task": "replication.refresh_cores",
        "schedule": every(10),
        "options": {"queue": "control", "expires": 10},
    },
    "replication.commit_due_failbacks": {
        "task": "replication.commit_due_failbacks",
        "schedule": every(60),
        "options": {"queue": "control", "expires": 60},
    },
    "replication.record_status": {
        "task": "replication.record_status",
        "schedule": every(900),
        "options": {"queue": "control", "expires": 900},
    },
    "jobs.rescue_stale_jobs": {
        "task": "jobs.rescue_stale_jobs",
        "schedule": every(5),
        "options": {"queue": "control", "expires": 5},
    },
}
# How long a machine may take to shut down before its VM is powered off.
UNDERSTUDY_SHUT_DOWN_SECONDS = env_int("UNDERSTUDY_SHUT_DOWN_SECONDS", 120)
# How long a page waits for a survey of a vCenter.
UNDERSTUDY_VSPHERE_LOOK_SECONDS = env_int("UNDERSTUDY_VSPHERE_LOOK_SECONDS", 15)
# How long a worker is presumed alive after its last sign of life; renewed after a quarter of it.
UNDERSTUDY_JOB_LEASE_SECONDS = env_int("UNDERSTUDY_JOB_LEASE_SECONDS", 30)
# How long routine jobs stay listed once they are done.
UNDERSTUDY_JOB_DAYS = env_int("UNDERSTUDY_JOB_DAYS", 30)

X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SESSION_COOKIE_HTTPONLY = True
# Set this if a proxy in front of the console terminates TLS and sets X-Forwarded-Proto.
UNDERSTUDY_HTTPS = env_bool("UNDERSTUDY_HTTPS", False)
# Without TLS, browsers offer passkeys on the computer itself only (localhost).
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not UNDERSTUDY_HTTPS
if UNDERSTUDY_HTTPS:
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
SESSION_COOKIE_AGE = 12 * 3600
# Cookies ignore ports, and two consoles on one host must not sign each other out.
_core_mark = hashlib.sha256(SECRET_KEY.encode()).hexdigest()[:8]
SESSION_COOKIE_NAME = f"understudy_session_{_core_mark}"
CSRF_COOKIE_NAME = f"understudy_csrf_{_core_mark}"
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
MESSAGE_TAGS = {10: "busy", 20: "busy", 25: "ok", 30: "warn", 40: "bad"}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name} {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env_str("UNDERSTUDY_LOG_LEVEL", "INFO")},
    # Django's own handlers keep errors from stderr when DEBUG is off.
    "loggers": {"django": {"handlers": [], "propagate": True}},
}
