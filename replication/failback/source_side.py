"""The source core's side of a failback: what the core that owns a machine may have this one do.

Every call names the pairing it came over, and that the machine belongs to the peer is looked at
each time. Nothing here decides anything: the workflow runs on the core that owns the machine.
"""

import datetime
import logging
import uuid
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from agent.errors import AgentError
from console.identity import this_core
from console.jobs.acts import cancel_job, start_job
from console.jobs.choices import OPEN, JobState, StepState
from console.jobs.errors import JobConflict, JobError
from console.jobs.models import Job
from console.jobs.workflow import StepFailed, Waiting
from protected_machines.agents import connection
from protected_machines.choices import MachineKind, PointKind
from protected_machines.errors import ProtectedMachinesError
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.ownership import OwnershipClaim, accepts_claim, record_owner
from protected_machines.points.workflow import SnapshotParams
from protected_machines.restores import rescue_machines
from protected_machines.restores import steps as restores_steps
from protected_machines.restores.workflow import RestoreDisksParams
from replication.errors import FailbackRefused, PeerFaulty
from replication.heartbeat import ownership_of
from replication.models import Pairing, ReplicatedMachine
from replication.transfer import history
from replication.transfer.receiving import get_machine_of, get_replicated_of, owned_elsewhere

logger = logging.getLogger(__name__)

_KINDS_SHOWN = ("restore_disks", "snapshot")


def accept_machine(pairing: Pairing, machine_id: uuid.UUID, sent: dict[str, Any]) -> Machine:
    """Record what the owner says of a machine that is to come back here; the settings are its.

    A core that was set up anew gets the machine's row. What this core took and the owner never had
    is marked as a branch that was not carried on.

    Raises:
        OwnedElsewhere: this core knows another owner, or owns it itself.
        FailbackRefused: the name or the address is another machine's here.
    """
    epoch = int(sent["ownership_epoch"])
    since = _time(sent.get("owned_since")) or timezone.now()
    claim = OwnershipClaim(str(pairing.peer_core_id), pairing.peer_name, epoch, since)
    with transaction.atomic():
        machine = Machine.objects.select_for_update().filter(pk=machine_id).first()
        if machine is None:
            machine = _make_machine(machine_id, claim, sent)
        elif not accepts_claim(
            str(machine.owner_core_id), machine.ownership_epoch, claim.owner_core_id, epoch
        ):
            raise owned_elsewhere(machine)
        else:
            record_owner(machine.pk, claim)
            _take_settings(machine, sent)
        ReplicatedMachine.objects.get_or_create(pairing=pairing, machine=machine)
        machine.refresh_from_db()
        if "point_ids" in sent:
            history.mark_by_history(machine, sent["point_ids"], epoch)
    return machine


def _make_machine(machine_id: uuid.UUID, claim: OwnershipClaim, sent: dict[str, Any]) -> Machine:
    name, host = str(sent["name"])[:200], str(sent["host"])[:253]
    port = int(sent.get("port") or 8006)
    if not host:
        raise PeerFaulty(f"The owner did not say at which address {name} will be.")
    if Machine.objects.filter(name=name, source_core_id=None).exists():
        raise FailbackRefused(f"{this_core().name} protects another machine named {name} already.")
    if Machine.objects.filter(kind=MachineKind.PROTECTED, host=host, port=port).exists():
        raise FailbackRefused(
            f"{this_core().name} protects another machine at {host}:{port} already."
        )
    logger.info("machine comes back to a new core machine_id=%s name=%s", machine_id, name)
    return Machine.objects.create(
        pk=machine_id,
        kind=MachineKind.PROTECTED,
        name=name,
        host=host,
        port=port,
        owner_core_id=claim.owner_core_id,
        owner_core_name=claim.owner_core_name,
        ownership_epoch=claim.ownership_epoch,
        owned_since=claim.owned_since,
        **_settings_of(sent),
    )


def _take_settings(machine: Machine, sent: dict[str, Any]) -> None:
    changes = _settings_of(sent)
    for name, value in changes.items():
        setattr(machine, name, value)
    machine.save(update_fields=list(changes))


def _settings_of(sent: dict[str, Any]) -> dict[str, Any]:
    return {
        "agent_certificate_pem": str(sent.get("agent_certificate_pem", "")),
        "description": sent.get("description") or {},
        "snapshot_interval_seconds": int(sent.get("snapshot_interval_seconds") or 3600),
    }


def point_ids(pairing: Pairing, machine_id: uuid.UUID) -> list[str]:
    """Return the points that this core holds of a machine; none of one that it does not know."""
    found = RecoveryPoint.objects.filter(
        machine_id=machine_id, machine__replications__pairing=pairing
    )
    return [str(key) for key in found.usable().values_list("pk", flat=True)]


def look_at_target(sent: dict[str, Any]) -> dict[str, Any]:
    """Pair with a rescue machine near this core, and say what its disks are.

    Raises:
        FailbackRefused: it does not answer, the code is wrong, or it runs its own system.
    """
    host, port = str(sent["host"]), int(sent["port"])
    try:
        target = rescue_machines.pair_target(host, port, str(sent["code"]))
    except (AgentError, ProtectedMachinesError) as error:
        raise FailbackRefused(str(error), error.code) from error
    return {
        "target_id": str(target.pk),
        "address": target.address,
        "description": target.description,
    }


def start_restore(pairing: Pairing, machine_id: uuid.UUID, sent: dict[str, Any]) -> dict[str, Any]:
    """Start to write a point to a rescue machine; one that is under way already is as good."""
    machine = get_machine_of(pairing, machine_id)
    params = RestoreDisksParams(
        point_id=uuid.UUID(str(sent["point_id"])),
        target_id=uuid.UUID(str(sent["target_id"])),
        since_point_id=uuid.UUID(str(sent["since_point_id"])) if sent["since_point_id"] else None,
    )
    under_way = Job.objects.filter(
        kind="restore_disks",
        subject_id=machine.pk,
        state__in=[JobState.QUEUED, JobState.RUNNING],
        params__point_id=str(params.point_id),
        params__target_id=str(params.target_id),
    ).first()
    job = under_way or start_job(
        "restore_disks",
        machine.pk,
        machine.name,
        params,
        request_id=uuid.UUID(str(sent["request_id"])),
    )
    return job_as_json(job)


def restart_target(pairing: Pairing, machine_id: uuid.UUID, sent: dict[str, Any]) -> dict[str, Any]:
    """Have the rescue machine start from its own disk."""
    get_machine_of(pairing, machine_id)
    try:
        restores_steps.restart_target(uuid.UUID(str(sent["target_id"])))
    except (AgentError, StepFailed) as error:
        raise FailbackRefused(str(error), error.code) from error
    return {}


def ask_machine(pairing: Pairing, machine_id: uuid.UUID, sent: dict[str, Any]) -> dict[str, Any]:
    """Say whether the machine's own agent answers this core at its place.

    Raises:
        FailbackRefused: another agent answers there, or this core is refused.
    """
    machine = get_machine_of(pairing, machine_id)
    try:
        found = restores_steps.wait_for_machine(machine.pk, uuid.UUID(str(sent["target_id"])))
    except Waiting as waiting:
        return {"answers": False, "text": waiting.reason}
    except (AgentError, StepFailed) as error:
        raise FailbackRefused(str(error), error.code) from error
    return {"answers": True, **found}


def take_over(pairing: Pairing, machine_id: uuid.UUID, sent: dict[str, Any]) -> dict[str, Any]:
    """Become the owner of a machine that the peer has handed over, and protect it at its place.

    Raises:
        OwnedElsewhere: this core knows of a later owner.
        PeerFaulty: the peer never introduced the machine.
    """
    core, epoch = this_core(), int(sent["ownership_epoch"])
    replicated = get_replicated_of(pairing, machine_id)
    since = _time(sent.get("owned_since")) or timezone.now()
    with transaction.atomic():
        record_owner(machine_id, OwnershipClaim(core.id, core.name, epoch, since))
        machine = Machine.objects.select_for_update().get(pk=machine_id)
        if not machine.is_owned_here or machine.ownership_epoch != epoch:
            raise owned_elsewhere(machine)
        Machine.objects.filter(pk=machine.pk).update(
            kind=MachineKind.PROTECTED, source_core_id=None
        )
        connection.record_place(
            machine.pk,
            host=str(sent["host"]),
            port=int(sent["port"]),
            description=sent["description"],
        )
        replicated.note_up_to_date(timezone.now())
    machine.refresh_from_db()
    logger.info("took over machine_id=%s epoch=%s from=%s", machine.pk, epoch, pairing.peer_name)
    return ownership_of(machine)


def start_snapshot(pairing: Pairing, machine_id: uuid.UUID, sent: dict[str, Any]) -> dict[str, Any]:
    """Force a snapshot of a machine that came back; one that is under way already is as good."""
    machine = get_replicated_of(pairing, machine_id).machine
    try:
        job = start_job(
            "snapshot",
            machine.pk,
            machine.name,
            SnapshotParams(kind=PointKind.INCREMENTAL),
            request_id=uuid.UUID(str(sent["request_id"])),
        )
    except JobConflict as conflict:
        if not isinstance(conflict.job, Job) or conflict.job.kind != "snapshot":
            raise FailbackRefused(conflict.text, conflict.code) from conflict
        job = conflict.job
    return job_as_json(job)


def show_job(pairing: Pairing, machine_id: uuid.UUID, job_id: uuid.UUID) -> dict[str, Any]:
    """Say how a job of this failback stands here."""
    get_replicated_of(pairing, machine_id)
    return job_as_json(_job_of(machine_id, job_id))


def stop_job(pairing: Pairing, machine_id: uuid.UUID, job_id: uuid.UUID) -> dict[str, Any]:
    """Cancel a job of this failback; one that has ended stays as it is."""
    get_replicated_of(pairing, machine_id)
    job = _job_of(machine_id, job_id)
    if job.state in OPEN:
        try:
            cancel_job(job, None)
        except JobError as error:
            logger.info("job not cancelled job=%s reason=%s", job.pk, error)
    return job_as_json(job)


def job_as_json(job: Job) -> dict[str, Any]:
    """Return how a job stands, for the other core to show and to wait for."""
    job.refresh_from_db()
    steps = list(job.steps.all())
    at = next((step for step in steps if step.name == job.current_step), None)
    return {
        "job_id": str(job.pk),
        "state": job.state,
        "step_title": at.title if at is not None else "",
        "note": at.note if at is not None else "",
        "done_bytes": job.done_bytes,
        "total_bytes": job.total_bytes,
        "error_code": job.error_code,
        "error_text": job.error_text,
        "outputs": {step.name: step.output for step in steps if step.state == StepState.SUCCEEDED},
    }


def _job_of(machine_id: uuid.UUID, job_id: uuid.UUID) -> Job:
    job = Job.objects.filter(pk=job_id, subject_id=machine_id, kind__in=_KINDS_SHOWN).first()
    if job is None:
        raise PeerFaulty(f"There is no such job of machine {machine_id} here: {job_id}.")
    return job


def _time(text: Any) -> datetime.datetime | None:
    return parse_datetime(text) if isinstance(text, str) else None
