"""Start a failover, once; tell who was quicker."""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, transaction

from console.jobs.acts import User, start_job
from console.jobs.choices import OPEN
from console.jobs.errors import JobConflict
from console.jobs.models import Job
from protected_machines.choices import MachineKind
from protected_machines.exports.plan import VmOptions
from replication.errors import FailoverRefused
from replication.failover.draft import MIB, DraftMachine, FailoverDraft
from replication.failover.workflow import FailoverParams
from replication.models import Failover, FailoverMachine, Pairing


def find_failover(request_id: uuid.UUID | None) -> Failover | None:
    """Return the failover that this request started already, if it did."""
    return Failover.objects.filter(request_id=request_id).first() if request_id else None


def start_failover(draft: FailoverDraft, requested_by: User) -> Failover:
    """Start one job for each chosen machine, all or none. A repeated request starts nothing.

    Raises:
        FailoverRefused: the draft is not fit to be started.
        JobConflict: somebody else is failing one of the machines over, or another job holds it.
    """
    if not draft.is_valid():
        raise FailoverRefused(draft.refusal or "Something in the form is not right.")
    request_id = draft.form.cleaned_data["request_id"]
    try:
        with transaction.atomic():
            failover = Failover.objects.create(
                pairing=draft.pairing,
                request_id=request_id,
                requested_by_id=requested_by.pk if requested_by is not None else None,
                reason=draft.form.cleaned_data["reason"],
            )
            for machine in draft.chosen:
                _start_machine(failover, draft, machine, requested_by)
    except IntegrityError:
        known = find_failover(request_id)
        if known is None:
            raise
        return known
    return failover


@dataclass(frozen=True)
class Rival:
    """A failover that somebody else began for a machine that was chosen here too."""

    text: str
    failover: Failover | None


def find_rival(pairing: Pairing, sent: Mapping[str, Any]) -> Rival | None:
    """Return what became of the chosen machines since the dialog was opened, if anything did."""
    chosen = pairing.machines.select_related("machine").filter(
        machine_id__in=list(_chosen_keys(sent))
    )
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
            text = f"{row.machine.name} is being failed over already, by {job.requested_by_name}."
            return Rival(text, _failover_of(job))
        if row.machine.kind in (MachineKind.FAILED_OVER, MachineKind.PENDING_FAILOVER):
            last = row.machine.failovers.select_related("failover").order_by(
                "-failover__created_at"
            )
            entry = last.first()
            text = f"{row.machine.name} is failed over already."
            return Rival(text, entry.failover if entry else None)
    return None


def rival_of(conflict: JobConflict) -> Rival:
    """Return the job in the way as a rival; it may be of another kind than a failover."""
    return Rival(conflict.text, _failover_of(conflict.job))


def _failover_of(job: object) -> Failover | None:
    group_id = job.group_id if isinstance(job, Job) else None
    return Failover.objects.filter(pk=group_id).first() if group_id is not None else None


def _chosen_keys(sent: Mapping[str, Any]) -> Iterator[uuid.UUID]:
    for name in sent:
        key, _, field_name = name.rpartition("-")
        if field_name == "is_chosen":
            with suppress(ValueError):
                yield uuid.UUID(key)


def _start_machine(
    failover: Failover, draft: FailoverDraft, machine: DraftMachine, requested_by: User
) -> None:
    assert draft.vcenter is not None
    assert machine.point is not None
    chosen = machine.form.cleaned_data
    options = VmOptions(
        vcenter_id=draft.vcenter.pk,
        datacenter=draft.look.place.datacenter,
        resource_pool=draft.look.resource_pool,
        host=draft.look.host,
        datastore=draft.look.place.datastore,
        network=draft.look.place.network,
        vm_name=chosen["vm_name"],
        cpus=chosen["cpus"],
        memory_bytes=chosen["memory_mib"] * MIB,
    )
    target = machine.replicated.machine
    FailoverMachine.objects.create(
        failover=failover,
        machine=target,
        point_id=machine.point.pk,
        point_taken_at=machine.point.taken_at,
        chosen={
            "vcenter": draft.vcenter.name,
            "datacenter": draft.look.title_of("datacenter"),
            "place": draft.look.title_of("place"),
            # Without the free space, which was that of then.
            "datastore": draft.look.title_of("datastore").rsplit(" (", 1)[0],
            "network": draft.look.title_of("network"),
            "vm_name": options.vm_name,
            "cpus": options.cpus,
            "memory_bytes": options.memory_bytes,
        },
    )
    start_job(
        "failover",
        target.pk,
        target.name,
        FailoverParams(
            failover_id=failover.pk,
            pairing_id=draft.pairing.pk,
            point_id=machine.point.pk,
            options=options,
        ),
        requested_by,
        uuid.uuid5(failover.request_id, str(target.pk)),
        failover.pk,
    )
