"""An agent's duty: protecting a running machine, or restoring a rescue machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from agent.protocol import Channel, Message
from agent.state import TrustedCore

Answer = Callable[[Channel, TrustedCore, Message], None]


class Duty(Protocol):
    """The part of the service that depends on the mode."""

    mode: str

    def start(self) -> None:
        """Start background work."""

    def stop(self) -> None:
        """Release everything that is held."""

    def describe(self) -> Message:
        """Return this duty's part of the machine's description."""

    def answers(self) -> dict[str, Answer]:
        """Return the requests that trusted cores may make, and what answers them."""


class Host(Protocol):
    """What a duty needs from the service."""

    def describe(self) -> Message:
        """Return the machine's whole description."""

    def freeze_answers(self) -> None:
        """Answer from memory from now on, without touching a file system, and change nothing."""

    def thaw_answers(self) -> None:
        """Return to normal answering."""
