"""The last points before a machine fails back; nothing may be written after the final one.

The last point before the freeze starts a watch: the agent tracks writes, so that the final point
reads only what has changed and the machine is not frozen while whole disks are read.

The agent keeps the file systems frozen for a limited time after the final point. The point is final
only if the VM is off before that time is over; if the machine thawed, another one is taken.
"""

import contextlib
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid5

from agent.client import AgentClient, Deadline
from agent.errors import AgentError, HoldLost
from console.jobs.workflow import StepContext, StepFailed
from protected_machines.agents.connection import PING_TIMEOUT_SECONDS, dial
from protected_machines.errors import ProtectedMachinesError
from protected_machines.models import Machine
from protected_machines.points.steps import take_point
from protected_machines.points.store import open_store
from replication.models import FailbackMachine

# How long the file systems stay frozen without a call from this core.
HOLD_SECONDS = 120
# How long the agent tracks writes. If sending and restoring the last point before the freeze takes
# longer, the final point reads whole disks.
WATCH_SECONDS = 4 * 3600
_TRIES = 3
_NAMES = 100


def take_watched_point(context: StepContext, point_id: str) -> dict[str, Any]:
    """Take a recovery point and, if the agent can, have it watch what is written from then on."""
    return take_point(context, point_id, watch_seconds=WATCH_SECONDS)


def end_watch(context: StepContext) -> None:
    """End the watch. An agent that does not answer, or is too old to watch, needs no telling."""
    _tell_agent(context, AgentClient.end_watch)


def take_final_point(context: StepContext, point_id: str) -> dict[str, Any]:
    """Take a recovery point and leave the machine frozen. Thaws it if anything goes wrong."""
    try:
        return take_point(context, point_id, hold_seconds=HOLD_SECONDS)
    except BaseException:
        thaw(context)
        raise


def thaw(context: StepContext) -> None:
    """Thaw the machine. One that does not answer is off, or thaws when its time is over."""
    _tell_agent(context, AgentClient.release_hold)


def _tell_agent(context: StepContext, tell: Callable[[AgentClient], object]) -> None:
    """Tell the machine's agent; one that does not answer need not be told."""
    machine = Machine.objects.get(pk=context.subject_id)
    with contextlib.suppress(AgentError, ProtectedMachinesError):
        tell(dial(machine, PING_TIMEOUT_SECONDS))


def hold_frozen(context: StepContext, entry: FailbackMachine, first_id: str) -> dict[str, Any]:
    """Return the final point, and until when the hold lasts; both are saved on the entry.

    first_id: of the first final point; the IDs of any that replace it are derived from it.

    Raises:
        StepFailed: the machine kept thawing.
    """
    ids = [first_id, *[str(uuid5(UUID(first_id), str(number))) for number in range(1, _NAMES)]]
    here = open_store().folders(str(context.subject_id))
    taken = [point_id for point_id in ids if point_id in here]
    for _ in range(_TRIES):
        try:
            ends = dial(Machine.objects.get(pk=context.subject_id)).extend_hold()
        except HoldLost:
            context.note("The machine thawed in the meantime, so the final point is taken again.")
            taken.append(ids[len(taken)])
            take_final_point(context, taken[-1])
            continue
        held = {"point_id": taken[-1], "ends": ends.to_json()}
        FailbackMachine.objects.filter(pk=entry.pk).update(
            vm={**without_hold(entry.vm), "held": held}
        )
        return held
    raise StepFailed(
        "FAILBACK-HOLD-LOST", "The file systems did not stay frozen after the final point."
    )


def was_off_in_time(held: dict[str, Any]) -> bool:
    """Tell whether a VM that is off now was off before the hold ended."""
    # One that an older version began had only a time, which proves nothing.
    return "ends" in held and not Deadline.from_json(held["ends"]).is_past


def without_hold(vm: dict[str, Any]) -> dict[str, Any]:
    """Return the facts about the VM without the hold."""
    return {name: value for name, value in vm.items() if name != "held"}
