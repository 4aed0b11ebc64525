"""What an agent is there for: to protect a running machine, or to restore a blank one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from agent.protocol import Channel, Message
from agent.state import TrustedCore

Answer = Callable[[Channel, TrustedCore, Message], None]


class Duty(Protocol):
    """The part of a service that differs between the two."""

    mode: str

    def start(self) -> None:
        """Begin whatever runs beside the answering."""

    def stop(self) -> None:
        """Release whatever is held."""

    def describe(self) -> Message:
        """Return what this duty adds to the machine's description."""

    def answers(self) -> dict[str, Answer]:
        """Return the requests that it answers, for cores that are trusted."""


class Host(Protocol):
    """The service, as a duty needs it."""

    def describe(self) -> Message:
        """Return the machine's whole description."""

    def freeze_answers(self) -> None:
        """From now on answer without touching a file system, and change nothing."""

    def thaw_answers(self) -> None:
        """Answer as usual again."""
