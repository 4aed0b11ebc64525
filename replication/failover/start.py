"""Start a failover, exactly once, and tell a second administrator who started it first."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass

from django.db import IntegrityError, transaction
from django.utils import timezone

from console.jobs.acts import User, start_job
from console.jobs.choices import OPEN
from console.jobs.errors import JobConflict
from console.jobs.models import Job
from protected_machines.choices import MachineKind
from protected_machines.exports.options import VmOptions
from replication.drafts import NO_REASON
from replication.errors import FailoverRefused
from replication.failover.check import CheckedMachine, FailoverCheck, check_failover
from replication.failover.order import FailoverOrder
from replication.failover.workflow import FailoverParams
from replication.models import Failover, FailoverMachine, Pairing


def find_failover(request_id: uuid.UUID | None) -> Failover | None:
    """Return the failover that this request has already started, if any."""
    return Failover.objects.filter(request_id=request_id).first() if request_id else None


def start_failover(
    order: FailoverOrder, requested_by: User, check: FailoverCheck | None = None
) -> Failover:
    """Start one job for each machine of the order, all or none. A repeated order starts nothing.

    check: the result of checking this very order, if that has already been done.

    Raises:
        FailoverRefused: the order cannot start; the text says why.
        JobConflict: someone else is failing over one of the machines, or another job holds it.
    """
    known = find_failover(order.request_id)
    if known is not None:
        return known
    if not order.reason.strip():
        raise FailoverRefused(NO_REASON)
    check = check or check_failover(order, timezone.now())
    if check.refusal:
        raise FailoverRefused(check.refusal)
    try:
        with transaction.atomic():
            failover = Failover.objects.create(
                pairing=check.pairing,
                request_id=order.request_id,
                requested_by_id=requested_by.pk if requested_by is not None else None,
                reason=order.reason,
            )
            for machine in check.machines:
                _start_machine(failover, check, machine, requested_by)
    except IntegrityError:
        known = find_failover(order.request_id)
        if known is None:
            raise
        return known
    return failover


@dataclass(frozen=True)
class Rival:
    """A failover, started by someone else, of a machine that was selected here too."""

    text: str
    failover: Failover | None


def find_rival(pairing: Pairing, machine_ids: Collection[uuid.UUID]) -> Rival | None:
    """Return the failover that someone has already started for one of these machines, if any."""
    chosen = pairing.machines.select_related("machine").filter(machine_id__in=machine_ids)
    rows = list(chosen.order_by("machine__name"))
    open_jobs = {
        job.subject_id: job
        for job in Job.objects.filter(
            kind="failover", subject_id__in=[row.machine_id for row in rows], state__in=OPEN
        )
    }
    for row in rows:
        job = open_jobs.get(row.machine_id)
        if job is not None:
            text = f"{job.requested_by_name} has already started a failover of {row.machine.name}."
            return Rival(text, _failover_of(job))
        if row.machine.kind in (MachineKind.FAILED_OVER, MachineKind.PENDING_FAILOVER):
            last = row.machine.failovers.select_related("failover").order_by(
                "-failover__created_at"
            )
            entry = last.first()
            text = f"{row.machine.name} has already failed over."
            return Rival(text, entry.failover if entry else None)
    return None


def rival_of(conflict: JobConflict) -> Rival:
    """Return the conflicting job as a rival; it may not be a failover."""
    return Rival(conflict.text, _failover_of(conflict.job))


def _failover_of(job: object) -> Failover | None:
    group_id = job.group_id if isinstance(job, Job) else None
    return Failover.objects.filter(pk=group_id).first() if group_id is not None else None


def _start_machine(
    failover: Failover, check: FailoverCheck, checked: CheckedMachine, requested_by: User
) -> None:
    assert check.vcenter is not None
    assert checked.point is not None
    survey, order = check.survey, checked.order
    options = VmOptions(
        vcenter_id=check.vcenter.pk,
        datacenter=survey.chosen.datacenter,
        resource_pool=survey.resource_pool,
        host=survey.host,
        folder=survey.chosen.folder,
        datastore=survey.chosen.datastore,
        network=survey.chosen.network,
        vm_name=order.vm_name,
        cpus=order.cpus,
        memory_bytes=order.memory_bytes,
        keeps_macs=order.keeps_macs,
    )
    machine = checked.replicated.machine
    FailoverMachine.objects.create(
        failover=failover,
        machine=machine,
        point_id=checked.point.pk,
        point_taken_at=checked.point.taken_at,
        chosen={
            "vcenter": check.vcenter.name,
            "datacenter": survey.title_of("datacenter"),
            "place": survey.title_of("compute"),
            "folder": survey.title_of("folder"),
            "datastore": survey.datastore_name,
            "network": survey.title_of("network"),
            "vm_name": options.vm_name,
            "cpus": options.cpus,
            "memory_bytes": options.memory_bytes,
        },
    )
    start_job(
        "failover",
        machine.pk,
        machine.name,
        FailoverParams(
            failover_id=failover.pk,
            pairing_id=check.pairing.pk,
            point_id=checked.point.pk,
            options=options,
        ),
        requested_by,
        uuid.uuid5(failover.request_id, str(machine.pk)),
        failover.pk,
        reason=failover.reason,
    )
