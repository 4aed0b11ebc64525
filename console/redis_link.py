"""A connection to this core's Redis, for those who ask it themselves. Celery has its own."""

from django.conf import settings
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry


def connect(answer_seconds: float = 5) -> Redis:
    """Return a connection that asks once: nobody who uses it may be held up by Redis."""
    return Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=answer_seconds,
        socket_connect_timeout=answer_seconds,
        retry=Retry(NoBackoff(), 0),
    )
