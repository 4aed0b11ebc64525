"""Workers tell Redis every few seconds which queues they work on, so that a probe can ask.

Redis forgets a worker that fell silent, by its own clock: setting this computer's changes nothing.
"""

import logging
import time

from celery import current_app
from celery.signals import heartbeat_sent
from redis.exceptions import RedisError

from console.identity import this_core
from console.redis_link import connect

logger = logging.getLogger(__name__)

BEAT_SECONDS = 10
# A worker may miss a few beats while its computer is busy.
ALIVE_SECONDS = 60
ANSWER_SECONDS = 2

_last_beat_seconds: float | None = None


def note_alive(queues: list[str]) -> None:
    """Record that a worker of these queues lives."""
    with connect(ANSWER_SECONDS) as redis:
        for queue in queues:
            redis.set(_key(queue), b"", ex=ALIVE_SECONDS)


def silent_queues(queues: list[str]) -> list[str]:
    """Return the queues that no worker works on.

    Raises:
        RedisError: Redis did not answer.
    """
    with connect(ANSWER_SECONDS) as redis:
        return [queue for queue in queues if not redis.exists(_key(queue))]


def follow_heartbeats() -> None:
    """Beat with the worker's own heartbeat, which stops with its main loop."""
    heartbeat_sent.connect(_beat)


def _beat(**_: object) -> None:
    global _last_beat_seconds
    now_seconds = time.monotonic()
    if _last_beat_seconds is not None and now_seconds - _last_beat_seconds < BEAT_SECONDS:
        return
    _last_beat_seconds = now_seconds
    try:
        note_alive(list(current_app.amqp.queues.consume_from))
    except RedisError as error:
        logger.warning("pulse not noted error=%s", error)


def _key(queue: str) -> str:
    return f"understudy:{this_core().id}:pulse:{queue}"
