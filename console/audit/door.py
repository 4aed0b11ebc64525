"""Through which door an act came in: who asks, and from where.

The site, the core interface and the shell each open a door; what is recorded within is by whoever
came through it. What no door leads to, this core does itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from django.conf import settings

from console.audit.choices import ActorKind


@dataclass(frozen=True)
class Actor:
    """Who acts. `address` is that of the client; empty where there is none."""

    kind: ActorKind
    name: str
    id: str = ""
    address: str = ""


@dataclass
class Door:
    """One way in, for as long as it is open. `entries`: how many were recorded meanwhile."""

    actor: Actor
    entries: int = 0


_open: ContextVar[Door | None] = ContextVar("audit_door", default=None)


@contextmanager
def come_in(actor: Actor) -> Iterator[Door]:
    """Have what is recorded meanwhile be by this actor."""
    door = Door(actor)
    token = _open.set(door)
    try:
        yield door
    finally:
        _open.reset(token)


def current_door() -> Door:
    """Return the open door; this core's own if there is none."""
    return _open.get() or Door(Actor(ActorKind.SELF, settings.UNDERSTUDY_CORE_NAME))
