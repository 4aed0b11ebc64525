"""Locks of all workers of this core, in Redis. They save work; nothing depends on them."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from redis.exceptions import LockError, RedisError

from console.identity import this_core
from console.redis_link import connect

logger = logging.getLogger(__name__)

LOCK_SECONDS = 120


@contextmanager
def alone(name: str, wait_seconds: float = 0) -> Iterator[Callable[[], None] | None]:
    """Hold a lock for a `with` block; yield a function that keeps it alive.

    Yields none if another worker holds it, also after the wait, or if Redis is away.
    """
    with connect() as redis:
        key = f"understudy:{this_core().id}:{name}"
        lock = redis.lock(key, timeout=LOCK_SECONDS)
        try:
            if redis.ttl(key) > LOCK_SECONDS:
                # From before the clock went back, and its holder may be dead.
                redis.expire(key, LOCK_SECONDS)
            is_held = lock.acquire(blocking=bool(wait_seconds), blocking_timeout=wait_seconds)
        except RedisError as error:
            logger.warning("lock not taken name=%s error=%s", name, error)
            is_held = False
        if not is_held:
            yield None
            return

        def keep_alive() -> None:
            with suppress(LockError, RedisError):
                lock.reacquire()

        try:
            yield keep_alive
        finally:
            # It may have expired, or Redis was emptied. Harmless: see above.
            with suppress(LockError, RedisError):
                lock.release()
