"""Read settings from environment variables; errors name the variable."""

import ipaddress
import os
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


def env_str(name: str, default: str = "") -> str:
    """Return the variable's text, or the default if it is not set."""
    return os.environ.get(name, default)


def env_bool(name: str, default: bool) -> bool:
    """Return the variable as a Boolean.

    Raises:
        ImproperlyConfigured: it is neither yes nor no.
    """
    text = os.environ.get(name)
    if text is None:
        return default
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ImproperlyConfigured(f"{name} is {text!r}; expected 1 or 0")


def env_int(name: str, default: int) -> int:
    """Return the variable as a whole number.

    Raises:
        ImproperlyConfigured: it is not a whole number.
    """
    text = os.environ.get(name)
    if text is None:
        return default
    try:
        return int(text)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} is {text!r}; expected a whole number") from error


def env_path(name: str, default: Path) -> Path:
    """Return the variable as an absolute path.

    Raises:
        ImproperlyConfigured: it is not absolute.
    """
    text = os.environ.get(name)
    if text is None:
        return default
    if not Path(text).is_absolute():
        raise ImproperlyConfigured(f"{name} is {text!r}; expected an absolute path")
    return Path(text)


def env_paths(name: str) -> list[Path]:
    """Return the absolute paths in a colon-separated variable; none if it is not set.

    Raises:
        ImproperlyConfigured: one of them is not absolute.
    """
    paths = [Path(text) for text in os.environ.get(name, "").split(":") if text]
    for path in paths:
        if not path.is_absolute():
            raise ImproperlyConfigured(f"{name} names {str(path)!r}; expected absolute paths")
    return [path.resolve() for path in paths]


def env_networks(name: str) -> list[Network]:
    """Return the comma-separated IP addresses and networks; none if the variable is not set.

    Raises:
        ImproperlyConfigured: one of them is neither.
    """
    networks: list[Network] = []
    for text in filter(None, (part.strip() for part in os.environ.get(name, "").split(","))):
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise ImproperlyConfigured(
                f"{name} contains {text!r}: {error}; expected addresses such as 10.0.0.5 and "
                "networks such as 10.0.0.0/24"
            ) from error
    return networks


def env_secret(name: str, fallback_file: Path) -> str:
    """Return a secret from NAME, from the file that NAME_FILE names, or from `fallback_file`.

    Raises:
        ImproperlyConfigured: the named file cannot be read.
    """
    if name in os.environ:
        return os.environ[name]
    file = Path(os.environ.get(f"{name}_FILE", fallback_file))
    try:
        return file.read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(f"{name}: the file {file} cannot be read: {error}") from error


def private_folder(path: Path) -> Path:
    """Return a folder that only this user may enter; make it if it is not there.

    Raises:
        ImproperlyConfigured: others can read it, and that cannot be changed.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.stat().st_mode & 0o077:
        try:
            path.chmod(0o700)
        except OSError as error:
            raise ImproperlyConfigured(
                f"UNDERSTUDY_HOME: other users can read {path}, which holds keys and the disks of "
                f"machines, and its mode cannot be changed: {error}"
            ) from error
    return path


# What libpq takes in a URL, besides where the database is.
_POSTGRESQL_OPTIONS = (
    "application_name",
    "connect_timeout",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
)


def database_from_url(url: str) -> dict[str, object]:
    """Return Django's database settings for a `sqlite://` or `postgresql://` URL.

    Raises:
        ImproperlyConfigured: the URL has another scheme, or an option that is not known.
    """
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    known = _POSTGRESQL_OPTIONS if parts.scheme != "sqlite" else ()
    unknown = sorted(options.keys() - set(known))
    if unknown:
        raise ImproperlyConfigured(
            f"DATABASE_URL has the option {unknown[0]}; "
            f"expected {', '.join(known) or 'none with sqlite://'}"
        )
    if parts.scheme == "sqlite":
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": unquote(parts.path),
            "OPTIONS": {
                # Writers queue instead of failing halfway through a read-then-write transaction.
                "transaction_mode": "IMMEDIATE",
                "timeout": 30,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            },
            # A file, as in production, so that a test's worker processes see it too.
            "TEST": {"NAME": f"{unquote(parts.path)}.tests"},
        }
    if parts.scheme in ("postgres", "postgresql"):
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(parts.path.lstrip("/")),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": parts.hostname or "",
            "PORT": str(parts.port or ""),
            "OPTIONS": options,
            "CONN_MAX_AGE": 60,
            "CONN_HEALTH_CHECKS": True,
        }
    raise ImproperlyConfigured(
        f"DATABASE_URL starts with {parts.scheme!r}; expected sqlite:// or postgresql://"
    )
