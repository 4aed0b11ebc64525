"""The Actions menus of the Replication page, and the item that a protected machine's menu gets.

Views refuse for the same reasons for which the page greys out its items.
"""

from console.jobs.models import Job
from console.menus import MenuItem
from protected_machines.choices import MachineKind
from protected_machines.menus import owner_items
from protected_machines.models import Machine
from protected_machines.ownership import act_refusal, settle_first
from replication.choices import MachineState
from replication.failback.policy import refuse_core_failback, refuse_machine_failback
from replication.failover.policy import refuse_core_failover, refuse_machine_failover
from replication.models import Pairing, ReplicatedMachine
from replication.seed_drives.policy import refuse_core_seed_drive, refuse_machine_seed_drive

_HELD_HERE = (
    MachineKind.PENDING_FAILOVER,
    MachineKind.FAILED_OVER,
    MachineKind.PENDING_FAILBACK,
)


def core_menu(pairing: Pairing, machine_count: int, failed_over_count: int) -> list[MenuItem]:
    """Return what can be done to a core as a whole."""
    items = [
        _pairing_item(pairing, "Details", "core", "pairing", "page"),
        _pairing_item(pairing, "Settings", "settings", "pairing-settings", "dialog"),
    ]
    if pairing.is_outgoing:
        items.append(
            _pairing_item(pairing, "Add machines", "plus", "pairing-machines-add", "dialog")
        )
        items.append(
            _pairing_item(
                pairing,
                "Copy to Seed Drive",
                "disk",
                "pairing-seed-drive",
                "dialog",
                refuse_core_seed_drive(machine_count),
            )
        )
    else:
        items.append(
            _pairing_item(pairing, "Consume Seed Drive", "disk", "pairing-consume", "dialog")
        )
    items += [
        _pairing_item(pairing, "Pause", "pause", "pairing-pause", "post", refuse_pause(pairing)),
        _pairing_item(
            pairing, "Resume", "resume", "pairing-resume", "post", refuse_resume(pairing)
        ),
        _pairing_item(
            pairing,
            "Force",
            "replicate",
            "pairing-force",
            "post",
            refuse_force(pairing, machine_count),
        ),
    ]
    if not pairing.is_outgoing:
        items.append(
            _pairing_item(
                pairing,
                "Fail Over",
                "failover",
                "pairing-fail-over",
                "dialog",
                refuse_core_failover(pairing, machine_count, failed_over_count),
            )
        )
        items.append(
            _pairing_item(
                pairing,
                "Failback",
                "point",
                "pairing-failback",
                "dialog",
                refuse_core_failback(failed_over_count),
            )
        )
    return items


def machine_menu(
    replicated: ReplicatedMachine, state: MachineState, job: Job | None
) -> list[MenuItem]:
    """Return what can be done to one machine."""
    items = [
        _machine_item(replicated, "Details", "server", "machine", "page"),
        *owner_items(replicated.machine),
        _machine_item(
            replicated, "Pause", "pause", "machine-pause", "post", refuse_machine_pause(replicated)
        ),
        _machine_item(
            replicated,
            "Resume",
            "resume",
            "machine-resume",
            "post",
            refuse_machine_resume(replicated),
        ),
        _machine_item(
            replicated,
            "Force",
            "replicate",
            "machine-force",
            "post",
            refuse_machine_force(replicated, state),
        ),
    ]
    if replicated.pairing.is_outgoing:
        items.append(
            _machine_item(
                replicated,
                "Copy to Seed Drive",
                "disk",
                "machine-seed-drive",
                "dialog",
                refuse_machine_seed_drive(replicated, state == MachineState.SEED_DRIVE),
            )
        )
    else:
        items.append(
            _machine_item(
                replicated,
                "Fail Over",
                "failover",
                "machine-fail-over",
                "dialog",
                refuse_machine_failover(replicated),
            )
        )
        items.append(
            _machine_item(
                replicated,
                "Failback",
                "point",
                "machine-failback",
                "dialog",
                refuse_machine_failback(replicated),
            )
        )
    return items


def refuse_pause(pairing: Pairing) -> str:
    return "Replication is already paused." if pairing.is_paused else ""


def refuse_resume(pairing: Pairing) -> str:
    if pairing.is_paused:
        return ""
    if pairing.is_paused_by_peer:
        return f"Replication is paused on {pairing.peer_name}. Resume it there."
    return "Replication is not paused."


def refuse_force(pairing: Pairing, machine_count: int) -> str:
    """Return why the machines of the pairing cannot be sent now; empty if they can."""
    if not machine_count:
        return "No machines are replicated over this pairing."
    return _refuse_transfer(pairing)


def _refuse_transfer(pairing: Pairing) -> str:
    if pairing.is_paused:
        return "Replication is paused. Resume it first."
    if pairing.is_paused_by_peer:
        return f"Replication is paused on {pairing.peer_name}. Resume it there first."
    if not pairing.is_outgoing and not pairing.is_reachable:
        return f"{pairing.peer_name} is not responding, so it cannot be asked to send."
    return ""


def refuse_machine_pause(replicated: ReplicatedMachine) -> str:
    return "Replication is already paused." if replicated.is_paused else ""


def refuse_machine_resume(replicated: ReplicatedMachine) -> str:
    if replicated.is_paused:
        return ""
    if replicated.is_paused_by_peer:
        return f"Replication is paused on {replicated.pairing.peer_name}. Resume it there."
    return "This machine is not paused on its own."


def refuse_machine_force(replicated: ReplicatedMachine, state: MachineState) -> str:
    machine = replicated.machine
    unsettled = settle_first(machine)
    if unsettled:
        return unsettled
    if state == MachineState.OWNED_ELSEWHERE:
        return f"{machine.owner_core_name} owns this machine, so this core cannot act on it."
    if machine.kind in _HELD_HERE or state == MachineState.NEEDS_ATTENTION:
        return "This core owns the machine now. Requests from its source core are rejected."
    if replicated.is_paused:
        return "Replication is paused. Resume it first."
    if state == MachineState.REPLICATING:
        return "The machine is already being sent."
    if state == MachineState.SEED_DRIVE:
        return (
            "Its points are on a seed drive. Consume the drive at the target core, or abandon it."
        )
    return _refuse_transfer(replicated.pairing)


def replicate_item(machine: Machine) -> MenuItem:
    """Return the item for a protected machine's own menu."""
    name = "replication:protected-machine-replicate"
    return MenuItem("Replicate", "replicate", name, machine.pk, "dialog", refuse_replicate(machine))


def refuse_replicate(machine: Machine) -> str:
    """Return why a machine cannot be replicated to another core now; empty if it can."""
    refusal = act_refusal(machine)
    if refusal:
        return refusal
    targets = Pairing.objects.outgoing()
    if not targets.exists():
        return "This core has no target core yet. Add one on the Replication page."
    if not targets.exclude(machines__machine=machine).exists():
        return "This machine is already replicated to every target core."
    return ""


def _pairing_item(
    pairing: Pairing, title: str, icon: str, name: str, how: str, refusal: str = ""
) -> MenuItem:
    return MenuItem(title, icon, f"replication:{name}", pairing.pk, how, refusal)


def _machine_item(
    replicated: ReplicatedMachine, title: str, icon: str, name: str, how: str, refusal: str = ""
) -> MenuItem:
    return MenuItem(title, icon, f"replication:{name}", replicated.pk, how, refusal)
