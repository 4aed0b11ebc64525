"""Could the company recover today? The answer for the machines replicated to this core."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from console.findings import Severity
from console.readiness import Readiness, ReadinessState
from console.wording import age_text
from protected_machines.choices import ConnectionState, MachineKind, PointState
from protected_machines.models import RecoveryPoint, VCenter
from protected_machines.readiness import late_after
from replication.failover.check import FailoverFacts, propose
from replication.failover.policy import CLOCK_FINDINGS
from replication.models import Pairing, ReplicatedMachine
from replication.transfer.quota import find_quota_use

_KINDS = (MachineKind.REPLICATED, MachineKind.PENDING_FAILOVER, MachineKind.FAILED_BACK)


@dataclass(frozen=True)
class ArrivedPoints:
    """What this core holds of a machine: its newest point, and its newest proven one."""

    newest_at: datetime | None
    newest_is_damaged: bool
    proven_at: datetime | None

    @classmethod
    def of(cls, points: Sequence[RecoveryPoint]) -> Self:
        """Read them off the newest points of the machine, newest first."""
        newest = points[0] if points else None
        proven = (one.proven_at for one in points if one.state == PointState.PROVEN)
        return cls(
            newest_at=newest.taken_at if newest else None,
            newest_is_damaged=newest is not None and newest.state == PointState.DAMAGED,
            proven_at=next(proven, None),
        )


def readiness(now: datetime) -> Iterator[Readiness]:
    """Yield one entry for each machine that could be failed over to this core.

    What blocks a machine here is what the Fail Over dialog would reject. The number of queries
    grows with the source cores, not with their machines; a manifest is read for each machine.
    """
    has_vcenter = VCenter.objects.exists()
    for pairing in Pairing.objects.incoming():
        rows = list(
            pairing.machines.select_related("machine", "pairing").filter(machine__kind__in=_KINDS)
        )
        facts = FailoverFacts(pairing, rows)
        quota = find_quota_use(pairing)
        warning = quota.text if quota is not None and quota.is_warned_of else ""
        for row in rows:
            held = ArrivedPoints.of(facts.points.get(row.machine_id, []))
            blocks, warnings = _findings(row, facts, has_vcenter, now)
            yield machine_readiness(row, held, blocks, now, warning, warnings)


def _findings(
    row: ReplicatedMachine, facts: FailoverFacts, has_vcenter: bool, now: datetime
) -> tuple[list[str], list[str]]:
    """Return why the Fail Over dialog would reject the machine, and what it says about clocks."""
    if row.machine.kind == MachineKind.PENDING_FAILOVER:
        return [], []
    if row.machine.kind == MachineKind.FAILED_BACK:
        text = "It has failed back. Commit the failback, so that it can be failed over again."
        return [text], []
    findings = facts.findings_anywhere(propose(row, facts), now, has_destination=has_vcenter)
    return (
        [finding.text for finding in findings if finding.severity == Severity.ERROR],
        [finding.text for finding in findings if finding.code in CLOCK_FINDINGS],
    )


def machine_readiness(
    replicated: ReplicatedMachine,
    points: ArrivedPoints,
    blocks: Sequence[str],
    now: datetime,
    quota_text: str = "",
    warnings: Sequence[str] = (),
) -> Readiness:
    """Return the readiness of one machine. Pure.

    blocks: why it could not be failed over now, in words.
    quota_text: how much of its quota the source core has used, if that is nearly all of it.
    warnings: what else the dialog warns of.
    """
    machine = replicated.machine
    reasons = (*blocks, *warnings, *_risks(replicated, points, now))
    if quota_text:
        text = f"{replicated.pairing.peer_name} has used {quota_text} of its quota here."
        reasons = (*reasons, text)
    if blocks:
        state, headline = ReadinessState.NOT_READY, "Cannot be failed over"
    elif machine.kind == MachineKind.PENDING_FAILOVER:
        state, headline = ReadinessState.AT_RISK, "Failing over"
    elif reasons:
        state, headline = ReadinessState.AT_RISK, "Can be failed over, but at risk"
    else:
        state, headline = ReadinessState.READY, "Can be failed over"
    return Readiness(
        machine_id=machine.pk,
        machine_name=machine.name,
        url=machine.get_absolute_url(),
        state=state,
        headline=headline,
        reasons=reasons,
        newest_point_at=points.newest_at,
        proven_at=points.proven_at,
        evidence_url=f"{machine.get_absolute_url()}#points-title",
        core_name=replicated.pairing.peer_name,
    )


def _risks(replicated: ReplicatedMachine, points: ArrivedPoints, now: datetime) -> Iterator[str]:
    pairing = replicated.pairing
    if replicated.machine.kind == MachineKind.PENDING_FAILOVER:
        yield "A failover is in progress."
        return
    if points.newest_is_damaged:
        if points.proven_at is not None:
            yield "The newest recovery point is damaged."
    elif points.newest_at is not None and points.proven_at is None:
        yield "No recovery point has been proven yet."
    if pairing.connection_state == ConnectionState.UNREACHABLE:
        yield f"{pairing.peer_name} is unreachable, so no newer points arrive."
    elif pairing.connection_state == ConnectionState.AUTHENTICATION_ERROR:
        yield f"{pairing.peer_name} and this core do not trust each other."
    elif replicated.is_paused_anywhere:
        yield "Replication is paused."
    elif replicated.error_text:
        yield f"Replication failed: {replicated.error_text}"
    elif points.newest_at is not None and points.newest_at < now - late_after(
        replicated.machine.snapshot_interval_seconds
    ):
        age_seconds = (now - points.newest_at).total_seconds()
        yield f"The newest recovery point was taken {age_text(age_seconds)}, which is late."
