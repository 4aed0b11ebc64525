"""Hooks through which tests inject faults into the real engine. They do nothing in production."""

import dataclasses
from collections.abc import Callable
from typing import Any

from console.jobs.choices import EventType
from console.jobs.workflow import Step, StepAction


def _call(step: Step, action: StepAction, context: Any, is_undo: bool) -> dict[str, Any] | None:
    return action(context)


def _pass(event_type: EventType, step: str) -> None:
    return None


@dataclasses.dataclass
class Doors:
    """Hooks around an action and around an event; by default they add nothing."""

    call: Callable[[Step, StepAction, Any, bool], dict[str, Any] | None] = _call
    before_event: Callable[[EventType, str], None] = _pass
    after_event: Callable[[EventType, str], None] = _pass


doors = Doors()
