"""A failover before it starts: what can be chosen, what speaks against it, and the start itself.

The dialog shows a draft; Continue makes it anew from what was sent and refuses by the same
findings. So what was shown and what is refused cannot differ.
"""

import datetime
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db.models import F, Window
from django.db.models.functions import RowNumber

from console.findings import Finding, has_errors
from console.jobs.choices import OPEN
from console.jobs.models import Job
from protected_machines.choices import MachineKind, PointState
from protected_machines.errors import ProtectedMachinesError
from protected_machines.exports.plan import export_facts, plan_export
from protected_machines.models import RecoveryPoint, VCenter
from protected_machines.points.proofs import get_manifest
from recovery_store.errors import StoreError
from recovery_store.manifest import Manifest
from replication.drafts import Draft, find_candidates
from replication.failover import policy
from replication.failover.destination import Look, Place, PlacementQuestion, look_at
from replication.failover.forms import FailoverForm, FailoverMachineForm
from replication.models import Pairing, ReplicatedMachine

POINTS_OFFERED = 30
MIB = 1024 * 1024
_DEFAULT_MEMORY_BYTES = 2048 * MIB


@dataclass
class DraftMachine:
    """One machine in the dialog."""

    replicated: ReplicatedMachine
    form: FailoverMachineForm
    points: list[RecoveryPoint]
    point: RecoveryPoint | None
    is_chosen: bool
    vm_name: str
    manifest: Manifest | None = None
    trouble_text: str = ""
    findings: list[Finding] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.replicated.machine.name

    @property
    def key(self) -> str:
        return str(self.replicated.machine_id)

    @property
    def needed_bytes(self) -> int:
        return sum(disk.capacity_bytes for disk in self.manifest.disks) if self.manifest else 0

    @property
    def has_errors(self) -> bool:
        return has_errors(self.findings)


@dataclass
class FailoverDraft(Draft[DraftMachine]):
    """A failover as it would start now."""

    vcenter: VCenter | None
    look: Look


def draft_failover(
    pairing: Pairing,
    now: datetime.datetime,
    sent: Mapping[str, Any] | None = None,
    *,
    is_strict: bool = False,
    only: ReplicatedMachine | None = None,
) -> FailoverDraft:
    """Return what a failover of this core's machines would be, with its findings.

    `sent` is what the dialog holds; without it the defaults are taken. `is_strict` refuses what is
    not offered instead of replacing it, for what a person has confirmed.
    """
    rows, left_out = find_candidates(pairing, MachineKind.REPLICATED, only)
    points = _points_of(rows)
    machines = [_draft_machine(row, points.get(row.machine_id, []), sent) for row in rows]
    vcenters = list(VCenter.objects.all())
    vcenter = _choose_vcenter(vcenters, sent)
    facts = _MachineFactsReader(rows)
    source = policy.SourceFacts(pairing.peer_name, pairing.is_reachable, pairing.last_seen_at)
    # What speaks against a machine itself decides whether it is chosen by default.
    for machine in machines:
        _read_point(machine)
        if sent is None:
            anywhere = policy.DestinationFacts(is_chosen=True)
            alone = policy.plan_failover(
                facts.of(machine), _point_facts(machine), source, anywhere, now
            )
            machine.is_chosen = not has_errors(alone)
            machine.form.initial["is_chosen"] = machine.is_chosen
    look = Look()
    if vcenter is not None:
        look = look_at(
            vcenter, _wanted_place(sent), lambda: _questions(machines), is_strict=is_strict
        )
    names = Counter(machine.vm_name for machine in machines if machine.is_chosen)
    for machine in machines:
        destination = policy.DestinationFacts(
            is_chosen=vcenter is not None,
            trouble_text=look.trouble_text,
            findings=[*look.findings.get(machine.key, []), *_name_findings(machine, names)],
        )
        machine.findings = policy.plan_failover(
            facts.of(machine), _point_facts(machine), source, destination, now
        )
    return FailoverDraft(
        pairing=pairing,
        form=_shared_form(sent, vcenters, vcenter, look, is_strict),
        vcenter=vcenter,
        look=look,
        machines=machines,
        left_out=left_out,
        nothing_text=f"No machine of {pairing.peer_name} can be failed over now.",
    )


def _points_of(rows: list[ReplicatedMachine]) -> dict[uuid.UUID, list[RecoveryPoint]]:
    """Return the newest points of each machine, newest first, in one query."""
    ranked = (
        RecoveryPoint.objects.filter(machine_id__in=[row.machine_id for row in rows])
        .annotate(
            place=Window(
                RowNumber(),
                partition_by=F("machine_id"),
                order_by=[F("taken_at").desc(), F("pk").desc()],
            )
        )
        .filter(place__lte=POINTS_OFFERED)
        .order_by("-taken_at", "-pk")
    )
    points: dict[uuid.UUID, list[RecoveryPoint]] = {}
    for point in ranked:
        points.setdefault(point.machine_id, []).append(point)
    return points


def default_point(points: list[RecoveryPoint]) -> RecoveryPoint | None:
    """Return the newest proven point, or the newest that is not known to be damaged."""
    for state in (PointState.PROVEN, PointState.UNPROVEN):
        found = next((point for point in points if point.state == state), None)
        if found is not None:
            return found
    return points[0] if points else None


def _draft_machine(
    row: ReplicatedMachine, points: list[RecoveryPoint], sent: Mapping[str, Any] | None
) -> DraftMachine:
    point = default_point(points)
    description = row.machine.description
    prefix = str(row.machine_id)
    form = FailoverMachineForm(
        sent,
        prefix=prefix,
        points=[(str(one.pk), point_title(one)) for one in points],
        initial={
            "point": str(point.pk) if point else "",
            "vm_name": row.machine.name,
            "cpus": description.get("cpus") or 2,
            "memory_mib": round((description.get("memory_bytes") or _DEFAULT_MEMORY_BYTES) / MIB),
        },
    )
    is_chosen, vm_name = False, row.machine.name
    if sent is not None:
        is_chosen = bool(sent.get(f"{prefix}-is_chosen"))
        vm_name = str(sent.get(f"{prefix}-vm_name", vm_name)).strip()
        wanted = sent.get(f"{prefix}-point", "")
        point = next((one for one in points if str(one.pk) == wanted), None)
    return DraftMachine(row, form, points, point, is_chosen, vm_name)


def point_title(point: RecoveryPoint) -> str:
    """Return a point as the list of points names it: when it was taken, and how sure it is."""
    taken = f"{point.taken_at:%Y-%m-%d %H:%M:%S}"
    if point.state == PointState.PROVEN and point.proven_at is not None:
        return f"{taken}, proven {point.proven_at:%Y-%m-%d %H:%M}"
    return f"{taken}, {'damaged' if point.state == PointState.DAMAGED else 'not proven yet'}"


def _read_point(machine: DraftMachine) -> None:
    if machine.point is None:
        return
    try:
        machine.manifest = get_manifest(machine.replicated.machine_id, machine.point.pk)
    except (StoreError, ProtectedMachinesError, OSError) as error:
        machine.trouble_text = f"This recovery point cannot be read: {error}."


def _point_facts(machine: DraftMachine) -> policy.ChosenPointFacts | None:
    if machine.point is None:
        return None
    findings: list[Finding] = []
    if machine.manifest is not None:
        findings = plan_export(export_facts(machine.point, machine.manifest), needs_agent=True)
    return policy.ChosenPointFacts(
        taken_at=machine.point.taken_at,
        consistency=machine.point.consistency,
        trouble_text=machine.trouble_text,
        export_findings=findings,
    )


class _MachineFactsReader:
    """What the plan must know of the machines; the jobs that hold them are read at once."""

    def __init__(self, rows: list[ReplicatedMachine]) -> None:
        held = Job.objects.filter(
            subject_id__in=[row.machine_id for row in rows], is_exclusive=True, state__in=OPEN
        )
        self._held = {job.subject_id: job for job in held}

    def of(self, draft: DraftMachine) -> policy.MachineFacts:
        machine = draft.replicated.machine
        job = self._held.get(machine.pk)
        text = ""
        if job is not None:
            text = (
                f"{job.title} of {machine.name} is under way, asked for by "
                f"{job.requested_by_name}. Wait for its end."
            )
        return policy.MachineFacts(
            name=machine.name,
            kind=machine.kind,
            kind_title=machine.get_kind_display(),
            owner_core_id=str(machine.owner_core_id),
            owner_core_name=machine.owner_core_name,
            source_core_id=str(draft.replicated.pairing.peer_core_id),
            snapshot_interval_seconds=machine.snapshot_interval_seconds,
            has_agent_certificate=bool(machine.agent_certificate_pem),
            newest_taken_at=draft.points[0].taken_at if draft.points else None,
            behind_points=draft.replicated.behind_points,
            open_job_text=text,
        )


def _name_findings(machine: DraftMachine, names: Counter[str]) -> list[Finding]:
    if not machine.is_chosen or names[machine.vm_name] < 2:
        return []
    return [
        Finding.error(
            "FAILOVER-VM-NAME-TWICE",
            f"Two of the chosen machines would become a VM named {machine.vm_name}.",
        )
    ]


def _questions(machines: list[DraftMachine]) -> list[PlacementQuestion]:
    return [
        PlacementQuestion(machine.key, machine.vm_name, machine.needed_bytes)
        for machine in machines
        if machine.is_chosen and machine.vm_name
    ]


def _choose_vcenter(vcenters: list[VCenter], sent: Mapping[str, Any] | None) -> VCenter | None:
    wanted = str(sent.get("vcenter", "")) if sent is not None else ""
    for vcenter in vcenters:
        if str(vcenter.pk) == wanted:
            return vcenter
    return vcenters[0] if vcenters else None


def _wanted_place(sent: Mapping[str, Any] | None) -> Place:
    if sent is None:
        return Place()
    names = ("datacenter", "place", "datastore", "network")
    return Place(**{name: str(sent.get(name, "")) for name in names})


def _shared_form(
    sent: Mapping[str, Any] | None,
    vcenters: list[VCenter],
    vcenter: VCenter | None,
    look: Look,
    is_strict: bool,
) -> FailoverForm:
    choices = {
        "vcenter": [(str(one.pk), f"{one.name} ({one.host})") for one in vcenters],
        "datacenter": look.choices.get("datacenter", []),
        "place": look.choices.get("place", []),
        "datastore": look.choices.get("datastore", []),
        "network": look.choices.get("network", []),
    }
    effective = {
        "vcenter": str(vcenter.pk) if vcenter else "",
        "datacenter": look.place.datacenter,
        "place": look.place.place,
        "datastore": look.place.datastore,
        "network": look.place.network,
    }
    if sent is None:
        return FailoverForm(choices=choices, initial=effective)
    values = {name: sent.get(name, "") for name in ("reason", "request_id")}
    given = {name: sent.get(name, "") for name in effective} if is_strict else effective
    return FailoverForm({**values, **given}, choices=choices)
