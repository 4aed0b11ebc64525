"""Check a failover order: gather each fact once, and have the policy judge them."""

import datetime
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from django.db.models import F, Window
from django.db.models.functions import RowNumber

from console.findings import Finding
from console.jobs.choices import OPEN
from console.jobs.models import Job
from protected_machines.agents.delegation import issuers_of
from protected_machines.choices import PointState
from protected_machines.errors import ProtectedMachinesError
from protected_machines.exports.check import check_macs, check_point, export_facts, space_of
from protected_machines.exports.options import MIB, memory_mib_of
from protected_machines.models import RecoveryPoint, VCenter
from protected_machines.models.descriptions import read_description
from protected_machines.ownership import trouble_text
from protected_machines.points.proofs import get_manifest
from recovery_store.errors import StoreError, StoreMissing
from recovery_store.manifest import Manifest
from replication.drafts import open_job_text, refusal_of
from replication.errors import FailoverRefused
from replication.failover import policy
from replication.failover.destination import PlacementQuestion, Survey, survey_vcenter
from replication.failover.order import FailoverOrder, MachineOrder
from replication.models import Pairing, ReplicatedMachine
from replication.peers.fellows import refresh_fellows
from vsphere import VmSpace

POINTS_OFFERED = 30


@dataclass
class CheckedMachine:
    """One machine of an order, and what was found about it, errors first."""

    order: MachineOrder
    replicated: ReplicatedMachine
    point: RecoveryPoint | None
    findings: list[Finding] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.replicated.machine.name


@dataclass
class FailoverCheck:
    """An order, its survey, and everything that was found about it.

    order: the one that was checked, with defaults filled in if they were asked for.
    others: machines that were checked too, though they are not part of the order.
    """

    order: FailoverOrder
    pairing: Pairing
    vcenter: VCenter | None
    survey: Survey
    machines: list[CheckedMachine]
    others: list[CheckedMachine]

    @property
    def refusal(self) -> str:
        """Why the failover cannot start, in one sentence; empty if it can."""
        return refusal_of(self.machines)


class FailoverFacts:
    """What the database and the store know about machines; everything is read once.

    Ask the fellows of the source core first (`refresh_fellows`) where their answers matter now.
    """

    def __init__(self, pairing: Pairing, rows: Iterable[ReplicatedMachine]) -> None:
        self.pairing = pairing
        self.rows = {row.machine_id: row for row in rows}
        self.points = _newest_points(self.rows)
        held = Job.objects.filter(subject_id__in=self.rows, is_exclusive=True, state__in=OPEN)
        self._holding = {job.subject_id: job for job in held}
        self._delegating = issuers_of(self.rows)
        self._fellows = list(pairing.fellows.all())
        self._manifests: dict[uuid.UUID, Manifest | str] = {}

    def row(self, machine_id: uuid.UUID) -> ReplicatedMachine:
        """Return the machine's row.

        Raises:
            FailoverRefused: the source core replicates no such machine to this core.
        """
        if machine_id not in self.rows:
            raise FailoverRefused(
                f"{self.pairing.peer_name} does not replicate a machine {machine_id} to this core."
            )
        return self.rows[machine_id]

    def point(self, order: MachineOrder) -> RecoveryPoint | None:
        """Return the order's recovery point, even if it is too old to be offered."""
        if order.point_id is None:
            return None
        offered = self.points.get(order.machine_id, [])
        found = next((point for point in offered if point.pk == order.point_id), None)
        return (
            found
            or RecoveryPoint.objects.filter(machine_id=order.machine_id, pk=order.point_id).first()
        )

    def manifest(self, point: RecoveryPoint) -> Manifest | str:
        """Return the point's manifest, or why it cannot be read."""
        if point.pk not in self._manifests:
            try:
                self._manifests[point.pk] = get_manifest(point.machine_id, point.pk)
            except StoreMissing:
                # Every page says where it is expected.
                self._manifests[point.pk] = "The store with its recovery points cannot be used."
            except (StoreError, ProtectedMachinesError, OSError) as error:
                text = f"This recovery point cannot be read: {error}. Choose another one."
                self._manifests[point.pk] = text
        return self._manifests[point.pk]

    def space(self, order: MachineOrder) -> VmSpace:
        """Return what the VM takes of a datastore; only swap if its point cannot be read."""
        point = self.point(order)
        manifest = self.manifest(point) if point is not None else ""
        if isinstance(manifest, str):
            return VmSpace(0, order.memory_bytes, lambda: 0)
        return space_of(manifest, order.memory_bytes)

    def mac_findings(self, order: MachineOrder) -> list[Finding]:
        """Return which MAC addresses the VM will not keep."""
        point = self.point(order)
        manifest = self.manifest(point) if point is not None else ""
        if isinstance(manifest, str):
            return []
        return check_macs(read_description(manifest.description), order.keeps_macs)

    def of_source(self) -> policy.SourceFacts:
        pairing = self.pairing
        return policy.SourceFacts(
            pairing.peer_name,
            pairing.is_reachable,
            pairing.last_seen_at,
            pairing.clock_ahead_seconds,
        )

    def of_point(self, point: RecoveryPoint | None) -> policy.ChosenPointFacts | None:
        if point is None:
            return None
        manifest = self.manifest(point)
        if isinstance(manifest, str):
            return policy.ChosenPointFacts(
                point.taken_at, point.consistency, self._is_newest(point), trouble_text=manifest
            )
        trusted = self._delegating.get(point.machine_id, [])
        found = check_point(export_facts(point, manifest, trusted), needs_agent=True)
        return policy.ChosenPointFacts(
            point.taken_at, point.consistency, self._is_newest(point), export_findings=found
        )

    def _is_newest(self, point: RecoveryPoint) -> bool:
        offered = self.points.get(point.machine_id)
        return not offered or offered[0].pk == point.pk

    def of_machine(self, row: ReplicatedMachine) -> policy.MachineFacts:
        machine = row.machine
        job = self._holding.get(machine.pk)
        points = self.points.get(machine.pk, [])
        return policy.MachineFacts(
            name=machine.name,
            kind=machine.kind,
            kind_title=machine.get_kind_display(),
            owner_core_id=str(machine.owner_core_id),
            owner_core_name=machine.owner_core_name,
            source_core_id=str(self.pairing.peer_core_id),
            snapshot_interval_seconds=machine.snapshot_interval_seconds,
            has_agent_certificate=bool(machine.agent_certificate_pem),
            newest_taken_at=points[0].taken_at if points else None,
            behind_points=row.behind_points,
            owner_trouble_text=trouble_text(machine),
            open_job_text="" if job is None else open_job_text(job),
            fellows=[
                policy.FellowFacts(one.name, one.silence_text)
                for one in self._fellows
                if str(one.core_id) in row.fellow_core_ids
            ],
        )

    def findings_anywhere(
        self, order: MachineOrder, now: datetime.datetime, *, has_destination: bool = True
    ) -> list[Finding]:
        """Return the findings about the machine itself, wherever it is to run."""
        return self._judge(order, policy.DestinationFacts(is_chosen=has_destination), now)

    def check(
        self, order: MachineOrder, destination: policy.DestinationFacts, now: datetime.datetime
    ) -> CheckedMachine:
        """Return the machine of an order with its findings."""
        point = self.point(order)
        return CheckedMachine(
            order=order,
            replicated=self.row(order.machine_id),
            point=point,
            findings=self._judge(order, destination, now),
        )

    def _judge(
        self, order: MachineOrder, destination: policy.DestinationFacts, now: datetime.datetime
    ) -> list[Finding]:
        return policy.check_machine(
            self.of_machine(self.row(order.machine_id)),
            self.of_point(self.point(order)),
            self.of_source(),
            destination,
            now,
        )


def default_point(points: list[RecoveryPoint]) -> RecoveryPoint | None:
    """Return the newest proven point, else the newest not known to be damaged, else the newest."""
    for state in (PointState.PROVEN, PointState.UNPROVEN):
        found = next((point for point in points if point.state == state), None)
        if found is not None:
            return found
    return points[0] if points else None


def propose(row: ReplicatedMachine, facts: FailoverFacts) -> MachineOrder:
    """Return the proposed order for a machine: its best point, and a VM like the machine."""
    described = row.machine.described
    point = default_point(facts.points.get(row.machine_id, []))
    return MachineOrder(
        machine_id=row.machine_id,
        point_id=point.pk if point is not None else None,
        vm_name=row.machine.name,
        cpus=described.cpus or 2,
        memory_bytes=memory_mib_of(described.memory_bytes or 2048 * MIB) * MIB,
    )


def check_failover(
    order: FailoverOrder,
    now: datetime.datetime,
    *,
    facts: FailoverFacts | None = None,
    others: Sequence[MachineOrder] = (),
    takes_defaults: bool = False,
) -> FailoverCheck:
    """Return the order with everything that was found about it. Changes nothing.

    facts: those that have already been read.
    others: machines to check too, though they are not part of the order.
    takes_defaults: a destination that is not offered is replaced by one that is.

    Raises:
        FailoverRefused: there is no such source core, or it has no such machine.
    """
    facts = facts or _read_facts(order)
    vcenter = _find_vcenter(order, takes_defaults)
    survey = Survey(chosen=order.destination)
    if vcenter is not None:
        questions = [
            PlacementQuestion(one.machine_id, one.vm_name, facts.space(one))
            for one in order.machines
            if one.vm_name
        ]
        wanted = replace(order.destination, vcenter_id=vcenter.pk)
        survey = survey_vcenter(vcenter, wanted, questions, takes_defaults=takes_defaults)
    names = Counter(one.vm_name for one in order.machines)

    def checked(one: MachineOrder, is_ordered: bool) -> CheckedMachine:
        findings = survey.findings.get(one.machine_id, [])
        if is_ordered:
            found = [*policy.vm_findings(one, names), *facts.mac_findings(one)]
            findings = [*found, *findings]
        return facts.check(
            one,
            policy.DestinationFacts(vcenter is not None, survey.trouble_text, findings),
            now,
        )

    return FailoverCheck(
        order=replace(order, destination=survey.chosen),
        pairing=facts.pairing,
        vcenter=vcenter,
        survey=survey,
        machines=[checked(one, True) for one in order.machines],
        others=[checked(one, False) for one in others],
    )


def _read_facts(order: FailoverOrder) -> FailoverFacts:
    pairing = Pairing.objects.filter(pk=order.pairing_id).first()
    if pairing is None or pairing.is_outgoing:
        raise FailoverRefused(
            f"No source core replicates to this one by pairing {order.pairing_id}."
        )
    ids = [one.machine_id for one in order.machines]
    refresh_fellows(pairing)
    rows = pairing.machines.select_related("machine", "pairing").filter(machine_id__in=ids)
    return FailoverFacts(pairing, rows)


def _find_vcenter(order: FailoverOrder, takes_defaults: bool) -> VCenter | None:
    wanted = order.destination.vcenter_id
    found = VCenter.objects.filter(pk=wanted).first() if wanted is not None else None
    return found or (VCenter.objects.first() if takes_defaults else None)


def _newest_points(machine_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, list[RecoveryPoint]]:
    """Return the newest points of each machine, newest first, in one query."""
    ranked = (
        RecoveryPoint.objects.filter(machine_id__in=list(machine_ids))
        .annotate(
            rank=Window(
                RowNumber(),
                partition_by=F("machine_id"),
                order_by=[F("position").desc(), F("taken_at").desc(), F("pk").desc()],
            )
        )
        .filter(rank__lte=POINTS_OFFERED)
        .newest_first()
    )
    points: dict[uuid.UUID, list[RecoveryPoint]] = {}
    for point in ranked:
        points.setdefault(point.machine_id, []).append(point)
    return points
