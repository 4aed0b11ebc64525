"""The states of cores and replicated machines, in the words of the Replication page."""

import datetime
from dataclasses import dataclass

from console.jobs.choices import STUCK, JobState
from console.jobs.models import Job
from console.wording import span
from protected_machines.choices import ConnectionState, MachineKind
from protected_machines.ownership import Trouble, ownership_trouble, trouble_text
from replication.choices import MachineState
from replication.failback.progress import RESTORING_STEPS
from replication.models import Pairing, PairingCode, ReplicatedMachine

# Jobs that are shown on the page of their failover or failback.
JOB_PAGES = {
    "failover": "replication:failover",
    "failback": "replication:failback",
    "failback_commit": "replication:failback",
    "failback_roll_back": "replication:failback",
}

WITHOUT_LAG = (
    MachineState.FAILED_OVER,
    MachineState.PENDING_FAILBACK,
    MachineState.RESTORING,
    MachineState.ROLLING_BACK,
    MachineState.UNDOING,
    MachineState.OWNED_ELSEWHERE,
    MachineState.OWNER_DISPUTED,
    MachineState.OWNER_CONTRADICTORY,
)

MACHINE_TONES = {
    MachineState.REPLICATED: "ok",
    MachineState.BEHIND: "warn",
    MachineState.REPLICATING: "busy",
    MachineState.PAUSED: "warn",
    MachineState.FAILED: "bad",
    MachineState.NOT_STARTED: "off",
    MachineState.FAILING_OVER: "busy",
    MachineState.FAILED_OVER: "ok",
    MachineState.PENDING_FAILBACK: "busy",
    MachineState.RESTORING: "busy",
    MachineState.FAILED_BACK: "warn",
    MachineState.ROLLING_BACK: "busy",
    MachineState.UNDOING: "busy",
    MachineState.NEEDS_ATTENTION: "bad",
    MachineState.OWNED_ELSEWHERE: "warn",
    MachineState.SEED_DRIVE: "warn",
    MachineState.OWNER_DISPUTED: "bad",
    MachineState.OWNER_CONTRADICTORY: "bad",
}


_OF_TROUBLE = {
    Trouble.DISPUTED: MachineState.OWNER_DISPUTED,
    Trouble.CONTRADICTORY: MachineState.OWNER_CONTRADICTORY,
}


@dataclass(frozen=True)
class State:
    """A state as pages show it: its tone, its text, and the reason as a tooltip."""

    tone: str
    text: str
    reason: str = ""


def core_state(pairing: Pairing, now: datetime.datetime) -> State:
    """Return the state of a core."""
    if pairing.connection_state == ConnectionState.AUTHENTICATION_ERROR:
        return State("bad", "Authentication error", pairing.connection_error)
    if pairing.connection_state == ConnectionState.UNREACHABLE:
        seconds = (now - (pairing.unreachable_since or now)).total_seconds()
        for_how_long = f" for {span(seconds)}" if seconds >= 60 else ""
        return State("bad", f"Unreachable{for_how_long}", pairing.connection_error)
    if pairing.is_paused:
        return State("warn", "Paused", "Paused on this core.")
    if pairing.is_paused_by_peer:
        return State("warn", "Paused", f"Paused on {pairing.peer_name}.")
    if pairing.connection_state == ConnectionState.UNKNOWN:
        return State(
            "off", "Not seen yet", "The two cores have not been in contact since they were paired."
        )
    if pairing.connection_error:
        # The site was lost a moment ago, or a firewall lets only its calls through.
        return State("warn", "Not responding", pairing.connection_error)
    return State("ok", "Online")


def code_state(code: PairingCode, now: datetime.datetime) -> State:
    """Return the state of a pairing code, and below it when it ends or by whom it was tried."""
    tries = "1 wrong try" if code.wrong_tries == 1 else f"{code.wrong_tries} wrong tries"
    if code.used_at is not None:
        return State("ok", f"Used by {code.used_by_name}", f"at {code.used_at:%H:%M} UTC")
    if code.is_void:
        return State("bad", "Void", f"{tries}. Make a new one.")
    if not code.is_open(now):
        return State("off", "Not used", tries if code.wrong_tries else "")
    until = f"until {code.expires_at:%H:%M} UTC"
    if code.wrong_tries:
        return State("warn", "Open", f"{until}, {tries}")
    return State("busy", "Open", until)


def machine_state(
    replicated: ReplicatedMachine, job: Job | None, core_id: str, is_on_seed_drive: bool = False
) -> MachineState:
    """Return the state of one machine; if several apply, the most important one."""
    machine, pairing = replicated.machine, replicated.pairing
    trouble = ownership_trouble(machine, core_id)
    if trouble is not None:
        return _OF_TROUBLE[trouble]
    is_owned_here = str(machine.owner_core_id) == core_id
    if pairing.is_outgoing:
        if job is not None and job.kind == "restore_disks" and job.is_open:
            return MachineState.RESTORING
        if not is_owned_here:
            return MachineState.OWNED_ELSEWHERE
        if is_on_seed_drive:
            return MachineState.SEED_DRIVE
        if job is not None and job.kind == "replicate" and job.is_open:
            return MachineState.REPLICATING
    elif job is not None and job.kind == "failover":
        is_stuck = job.state in STUCK
        return MachineState.NEEDS_ATTENTION if is_stuck else MachineState.FAILING_OVER
    elif job is not None and job.kind in JOB_PAGES:
        return _failback_state(job)
    elif machine.kind == MachineKind.PENDING_FAILOVER:
        return MachineState.FAILING_OVER
    elif machine.kind == MachineKind.PENDING_FAILBACK:
        return MachineState.PENDING_FAILBACK
    elif machine.kind == MachineKind.FAILED_BACK:
        return MachineState.FAILED_BACK
    elif machine.kind == MachineKind.FAILED_OVER and is_owned_here:
        return MachineState.FAILED_OVER
    if _pause_text(replicated):
        return MachineState.PAUSED
    if replicated.error_code:
        return MachineState.FAILED
    if replicated.last_point_at is None:
        return MachineState.NOT_STARTED
    return MachineState.BEHIND if replicated.behind_points else MachineState.REPLICATED


def _failback_state(job: Job) -> MachineState:
    if job.state in STUCK:
        return MachineState.NEEDS_ATTENTION
    if job.kind == "failback_commit":
        return MachineState.FAILED_BACK
    if job.state == JobState.UNWINDING:
        return MachineState.UNDOING
    if job.kind == "failback_roll_back":
        return MachineState.ROLLING_BACK
    return (
        MachineState.RESTORING
        if job.current_step in RESTORING_STEPS
        else MachineState.PENDING_FAILBACK
    )


def reason_of(replicated: ReplicatedMachine, state: MachineState, job: Job | None) -> str:
    """Return the reason for a state, in a sentence; empty if the state says it all."""
    machine = replicated.machine
    if state in _OF_TROUBLE.values():
        return trouble_text(machine)
    if state == MachineState.OWNED_ELSEWHERE:
        return f"Owned by {machine.owner_core_name}. This core does not act on it."
    if state == MachineState.FAILED_OVER:
        return f"Runs here. Requests from {replicated.pairing.peer_name} are rejected."
    if state == MachineState.FAILED_BACK:
        return f"Runs at {machine.owner_core_name}. Its VM is kept here, powered off."
    if state == MachineState.SEED_DRIVE:
        return (
            f"Nothing is sent until {replicated.pairing.peer_name} has consumed the seed "
            "drive or it is abandoned."
        )
    if state == MachineState.PAUSED:
        return _pause_text(replicated)
    if state in (MachineState.FAILED, MachineState.NOT_STARTED):
        return replicated.error_text
    if state == MachineState.NEEDS_ATTENTION and job is not None:
        return job.error_text
    return ""


def _pause_text(replicated: ReplicatedMachine) -> str:
    pairing = replicated.pairing
    if replicated.is_paused or pairing.is_paused:
        return "Paused on this core."
    if replicated.is_paused_by_peer or pairing.is_paused_by_peer:
        return f"Paused on {pairing.peer_name}."
    return ""


def lag_text(points: int, waiting_bytes: int, seconds: float) -> str:
    """Return how far behind in words; empty if nothing is waiting."""
    if not points:
        return ""
    count = "1 point" if points == 1 else f"{points} points"
    if not seconds:
        return count
    return f"{span(seconds)}, {count}"
