"""Periodic wake-ups. Each calls a plain function that may run at any time, twice, or late."""

# Celery ships no types.
# mypy: disable-error-code="untyped-decorator"

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from celery import shared_task
from django.conf import settings
from redis import Redis
from redis.exceptions import LockError

from console.identity import this_core
from console.steady import look_at_clock
from protected_machines.agents import connection
from protected_machines.exports import strays
from protected_machines.points import schedule
from protected_machines.points.index import reindex_store as compare_store_and_index
from protected_machines.points.store import open_store

LOCK_SECONDS = 120


@contextmanager
def alone(name: str) -> Iterator[Callable[[], None] | None]:
    """Yield a function that keeps the lock alive; none if another worker holds the lock.

    Running twice does no harm, but a proof reads whole disks, and two of them would keep all
    workers of the queue from taking snapshots.
    """
    with Redis.from_url(settings.REDIS_URL) as redis:
        key = f"understudy:{this_core().id}:{name}"
        if redis.ttl(key) > LOCK_SECONDS:
            # From before the clock went back, and its holder may be dead.
            redis.expire(key, LOCK_SECONDS)
        lock = redis.lock(key, timeout=LOCK_SECONDS)
        if not lock.acquire(blocking=False):
            yield None
            return

        def keep_alive() -> None:
            with suppress(LockError):
                lock.reacquire()

        try:
            yield keep_alive
        finally:
            # It may have expired, or Redis was emptied. Harmless: see above.
            with suppress(LockError):
                lock.release()


@shared_task(
    name="protected_machines.start_due_snapshots",
    ignore_result=True,
    soft_time_limit=120,
    time_limit=150,
)
def start_due_snapshots() -> None:
    schedule.start_due_snapshots()


@shared_task(
    name="protected_machines.refresh_connections",
    ignore_result=True,
    soft_time_limit=240,
    time_limit=270,
)
def refresh_connections() -> None:
    with alone("refresh-connections") as keep_alive:
        if keep_alive is not None:
            connection.refresh_connections()


@shared_task(
    name="protected_machines.prove_points",
    ignore_result=True,
    soft_time_limit=24 * 3600,
    time_limit=24 * 3600 + 60,
)
def prove_points() -> None:
    with alone("prove-points") as keep_alive:
        if keep_alive is not None:
            schedule.prove_points(keep_alive=keep_alive)


@shared_task(
    name="protected_machines.find_stray_vms",
    ignore_result=True,
    soft_time_limit=240,
    time_limit=270,
)
def find_stray_vms() -> None:
    with alone("find-stray-vms") as keep_alive:
        if keep_alive is not None:
            strays.find_stray_vms()


@shared_task(
    name="protected_machines.expire_unfinished",
    ignore_result=True,
    soft_time_limit=600,
    time_limit=660,
)
def expire_unfinished() -> None:
    if look_at_clock().is_steady:
        schedule.expire_unfinished()


@shared_task(
    name="protected_machines.reindex_store",
    ignore_result=True,
    soft_time_limit=600,
    time_limit=660,
)
def reindex_store() -> None:
    with alone("reindex-store") as keep_alive:
        if keep_alive is not None:
            compare_store_and_index(open_store())
