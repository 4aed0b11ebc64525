"""Hooks that run after every new recovery point."""

import logging
from collections.abc import Callable

from protected_machines.models import Machine, RecoveryPoint

logger = logging.getLogger(__name__)

Hook = Callable[[Machine, RecoveryPoint], None]
_hooks: list[Hook] = []


def register(hook: Hook) -> Hook:
    """Call `hook` after every point taken here. Usable as a decorator. Idempotent.

    A hook only starts a job; it does no work itself. It may be called twice for the same point.
    """
    if hook not in _hooks:
        _hooks.append(hook)
    return hook


def run_hooks(machine: Machine, point: RecoveryPoint) -> None:
    """Call every registered hook for a point that is in the store and in the index."""
    for hook in list(_hooks):
        hook(machine, point)
        logger.info(
            "after point machine_id=%s point_id=%s hook=%s", machine.pk, point.pk, hook.__name__
        )
