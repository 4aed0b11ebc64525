"""Decisions of a failover: plain facts in, plain findings out. No rows, no calls."""

import datetime
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from console.findings import Finding, errors_first
from console.wording import ago, span
from protected_machines.choices import MachineKind
from protected_machines.exports.options import check_vm
from protected_machines.models.points import ahead_text, is_ahead
from protected_machines.ownership import settle_first
from replication.clocks import clock_text
from replication.failover.order import MachineOrder
from replication.models import Pairing, ReplicatedMachine


@dataclass(frozen=True)
class ChosenPointFacts:
    """What a failover must know about the chosen recovery point."""

    taken_at: datetime.datetime
    consistency: str = ""
    # Whether a later point could be chosen instead, by the order of the chain.
    is_newest: bool = True
    # Why its manifest cannot be read; empty if it can.
    trouble_text: str = ""
    # Findings about exporting it to any VM: `protected_machines.exports.check.check_point`.
    export_findings: Sequence[Finding] = field(default_factory=tuple)


@dataclass(frozen=True)
class FellowFacts:
    """What this core knows about another target core of the machine."""

    name: str
    # Why it did not say which machines it has failed over; empty if it did.
    silence_text: str = ""


@dataclass(frozen=True)
class MachineFacts:
    """What a failover must know about the machine."""

    name: str
    kind: str
    kind_title: str
    owner_core_id: str
    owner_core_name: str
    source_core_id: str
    snapshot_interval_seconds: int
    has_agent_certificate: bool
    newest_taken_at: datetime.datetime | None
    behind_points: int = 0
    # Why its owner has to be settled first; empty if it is clear who owns it.
    owner_trouble_text: str = ""
    # Which job holds the machine now; empty if none does.
    open_job_text: str = ""
    fellows: Sequence[FellowFacts] = ()


@dataclass(frozen=True)
class SourceFacts:
    """What this core knows about the source core."""

    name: str
    is_reachable: bool
    last_seen_at: datetime.datetime | None
    # None if it was never measured.
    clock_ahead_seconds: int | None = None


@dataclass(frozen=True)
class DestinationFacts:
    """Where the machine will run, as far as vSphere could be surveyed."""

    is_chosen: bool
    # Why vSphere could not be surveyed; empty if it could.
    trouble_text: str = ""
    findings: Sequence[Finding] = field(default_factory=tuple)


POINT_AHEAD = "FAILOVER-POINT-AHEAD"
CLOCKS_DIFFER = "FAILOVER-CLOCKS-DIFFER"
# Warnings that the home page repeats.
CLOCK_FINDINGS = frozenset({POINT_AHEAD, CLOCKS_DIFFER})

_STALE_INTERVALS = 3
_STALE_AT_LEAST_SECONDS = 15 * 60
_UNFROZEN = ("crash", "not_guaranteed")


def check_machine(
    machine: MachineFacts,
    point: ChosenPointFacts | None,
    source: SourceFacts,
    destination: DestinationFacts,
    now: datetime.datetime,
) -> list[Finding]:
    """Return what was found about failing this machine over, errors first.

    The findings that the dialog shows are the ones for which Continue refuses.
    """
    findings = [
        *_machine_findings(machine, source),
        *_point_findings(machine, point, now),
        *_clock_findings(source),
        *_destination_findings(destination),
    ]
    return errors_first(findings)


def vm_findings(order: MachineOrder, names: Counter[str]) -> list[Finding]:
    """Return what is wrong with the VM that a machine will become.

    names: how often the order uses each VM name.
    """
    findings = check_vm(order.vm_name, order.cpus, order.memory_bytes)
    if names[order.vm_name] > 1:
        text = f"Two of the selected machines would get the VM name {order.vm_name}."
        findings.append(Finding.error("FAILOVER-VM-NAME-TWICE", text))
    return findings


def _machine_findings(machine: MachineFacts, source: SourceFacts) -> Iterable[Finding]:
    if machine.owner_trouble_text:
        yield Finding.error("FAILOVER-OWNER-UNSETTLED", machine.owner_trouble_text)
    elif machine.kind != "replicated" or machine.owner_core_id != machine.source_core_id:
        yield Finding.error(
            "FAILOVER-NOT-REPLICATED",
            f"{machine.name} is owned by {machine.owner_core_name} and is "
            f"{machine.kind_title.lower()} here. Only a replicated machine can be failed "
            "over.",
        )
    if machine.open_job_text:
        yield Finding.error("FAILOVER-JOB-OPEN", machine.open_job_text)
    if not machine.has_agent_certificate:
        yield Finding.error(
            "FAILOVER-NO-AGENT-CERTIFICATE",
            f"{source.name} never sent the certificate of {machine.name}'s agent, so this "
            "core would not recognise the agent. You can still export the machine's "
            "recovery points.",
        )
    if source.is_reachable:
        seen = f", last seen {ago(source.last_seen_at, None)}" if source.last_seen_at else ""
        yield Finding.warning(
            "FAILOVER-SOURCE-REACHABLE",
            f"{source.name} still responds{seen}. If {machine.name} is still running "
            "there, it will run twice: shut it down first. After the failover, the source "
            "core is no longer allowed to act on it.",
        )
    for fellow in machine.fellows:
        if fellow.silence_text:
            yield Finding.warning(
                "FAILOVER-FELLOW-SILENT",
                f"{source.name} replicates {machine.name} to {fellow.name} too, which did not say "
                f"whether it has failed the machine over: {fellow.silence_text} If it has, the "
                "machine will run twice. Check there first.",
            )


def _point_findings(
    machine: MachineFacts,
    point: ChosenPointFacts | None,
    now: datetime.datetime,
) -> Iterable[Finding]:
    if point is None:
        yield Finding.error(
            "FAILOVER-NO-POINT",
            f"No complete recovery point of {machine.name} has arrived here, so there is nothing "
            "to start from.",
        )
        return
    if point.trouble_text:
        yield Finding.error("FAILOVER-POINT-UNREADABLE", point.trouble_text)
    yield from point.export_findings
    if point.consistency in _UNFROZEN:
        yield Finding.warning(
            "FAILOVER-POINT-NOT-FROZEN",
            "The file systems were not frozen for this recovery point. The machine will "
            "start as if after a power cut.",
        )
    yield from _age_findings(machine, point, now)


def _age_findings(
    machine: MachineFacts, point: ChosenPointFacts, now: datetime.datetime
) -> Iterable[Finding]:
    if machine.newest_taken_at is not None and not point.is_newest:
        newer_seconds = (machine.newest_taken_at - point.taken_at).total_seconds()
        is_told = newer_seconds > 0 and not is_ahead(machine.newest_taken_at, now)
        newer = f"that is {span(newer_seconds)} newer" if is_told else "that is newer"
        yield Finding.warning(
            "FAILOVER-POINT-NOT-NEWEST",
            f"A recovery point {newer} is available but not selected.",
        )
    elif machine.behind_points:
        count = machine.behind_points
        points = "1 newer recovery point" if count == 1 else f"{count} newer recovery points"
        yield Finding.warning(
            "FAILOVER-BEHIND",
            f"The source core had {points} that did not arrive here. That data will be lost.",
        )
    stale_seconds = max(
        machine.snapshot_interval_seconds * _STALE_INTERVALS, _STALE_AT_LEAST_SECONDS
    )
    age_seconds = (now - point.taken_at).total_seconds()
    if is_ahead(point.taken_at, now):
        yield Finding.warning(POINT_AHEAD, ahead_text(point.taken_at, now))
    elif age_seconds > stale_seconds:
        yield Finding.warning(
            "FAILOVER-POINT-OLD",
            f"This recovery point is {span(age_seconds)} old, although a snapshot is due "
            f"every {span(machine.snapshot_interval_seconds)}.",
        )


def _clock_findings(source: SourceFacts) -> Iterable[Finding]:
    off = clock_text(source.clock_ahead_seconds)
    if off:
        yield Finding.warning(
            CLOCKS_DIFFER,
            f"The clock of {source.name} is {off}, so the ages of its recovery points shown here "
            "are wrong by that much. Their order is not affected.",
        )


def _destination_findings(destination: DestinationFacts) -> Iterable[Finding]:
    if destination.trouble_text:
        yield Finding.error("FAILOVER-VSPHERE", destination.trouble_text)
    elif not destination.is_chosen:
        yield Finding.error(
            "FAILOVER-NO-VCENTER",
            "This core has no vCenter yet. Add one under Settings, then open this dialog again.",
        )
    yield from destination.findings


def refuse_core_failover(pairing: Pairing, machine_count: int, failed_over_count: int) -> str:
    if not machine_count:
        return f"{pairing.peer_name} does not replicate any machines to this core."
    if failed_over_count >= machine_count:
        return "All its machines have already failed over."
    return ""


def refuse_machine_failover(replicated: ReplicatedMachine) -> str:
    machine = replicated.machine
    unsettled = settle_first(machine)
    if unsettled:
        return unsettled
    if machine.kind == MachineKind.FAILED_OVER:
        return "This machine has already failed over."
    if machine.kind == MachineKind.PENDING_FAILOVER:
        return "A failover of this machine is in progress."
    if machine.kind == MachineKind.PENDING_FAILBACK:
        return "A failback of this machine is in progress."
    if machine.kind == MachineKind.FAILED_BACK:
        return "This machine has failed back, but that is not committed yet. Commit it first."
    if machine.kind != MachineKind.REPLICATED:
        return "This machine is not replicated to this core."
    if replicated.last_point_at is None:
        return "No recovery point of this machine has arrived here yet."
    return ""
