"""What load balancers and monitors ask: does the process answer, and can this core do its work?

Anyone may ask, so the answers name only the parts; the reasons are in the log. Other rooms add
parts of their own.
"""

import logging
from collections.abc import Callable

from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from redis.exceptions import RedisError

from console.jobs.choices import Queue
from console.pulse import ANSWER_SECONDS, silent_queues
from console.redis_link import connect

logger = logging.getLogger(__name__)

# Returns why a part cannot be used; empty if it can.
Check = Callable[[], str]
_checks: dict[str, Check] = {}


def register_check(name: str, check: Check) -> None:
    """Have `/readyz` ask for one more part. Called from an app's `ready()`."""
    _checks[name] = check


@login_not_required
@require_safe
@never_cache
def healthz(request: HttpRequest) -> JsonResponse:
    """Answer that this process works on requests. Restart it if this does not answer."""
    return JsonResponse({"status": "ok"})


@login_not_required
@require_safe
@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """Answer 200 if this core can do its work, or 503; both say which parts can be used."""
    troubles = {name: _ask(check) for name, check in _checks.items()}
    for name, text in troubles.items():
        if text:
            logger.warning("not ready part=%s reason=%s", name, text)
    is_ready = not any(troubles.values())
    content = {
        "status": "ok" if is_ready else "failed",
        "parts": {name: "failed" if text else "ok" for name, text in troubles.items()},
    }
    return JsonResponse(content, status=200 if is_ready else 503)


def _ask(check: Check) -> str:
    """Ask for one part; what it needs may be away, too."""
    try:
        return check()
    except (DatabaseError, RedisError) as error:
        return f"{type(error).__name__}: {error}"


def _database_trouble() -> str:
    return "" if MigrationRecorder(connection).applied_migrations() else "It has no tables."


def _redis_trouble() -> str:
    with connect(ANSWER_SECONDS) as redis:
        redis.ping()
    return ""


def _workers_trouble() -> str:
    silent = silent_queues([queue.value for queue in Queue])
    return f"No worker works on {' and '.join(silent)}." if silent else ""


register_check("database", _database_trouble)
register_check("redis", _redis_trouble)
register_check("workers", _workers_trouble)
