"""The source core's side of a failback: what the core that owns a machine may ask of this one.

Every call names the pairing it came over and checks that the machine belongs to that peer. Nothing
is decided here: the workflow runs on the core that owns the machine.
"""

import logging
import uuid

from django.db import IntegrityError, transaction
from django.utils import timezone
from msgspec import UNSET

from agent.errors import AgentError
from console.identity import this_core
from console.jobs.acts import cancel_job, start_job
from console.jobs.choices import OPEN, JobState, StepState
from console.jobs.errors import JobConflict, JobError
from console.jobs.models import Job
from console.jobs.workflow import StepFailed, Waiting
from protected_machines.agents import connection
from protected_machines.agents.delegation import keep_delegation
from protected_machines.choices import MachineKind, PointKind
from protected_machines.errors import ProtectedMachinesError
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.ownership import OwnershipClaim, accepts_claim, record_owner
from protected_machines.points.workflow import SnapshotParams
from protected_machines.restores import rescue_machines
from protected_machines.restores import steps as restores_steps
from protected_machines.restores.workflow import RestoreDisksParams
from replication.errors import FailbackRefused, PeerFaulty
from replication.models import Pairing, ReplicatedMachine
from replication.peers import wire
from replication.transfer import history
from replication.transfer.receiving import get_machine_of, get_replicated_of, owned_elsewhere

logger = logging.getLogger(__name__)

_KINDS_SHOWN = ("restore_disks", "snapshot")


def accept_machine(pairing: Pairing, machine_id: uuid.UUID, sent: wire.SentMachine) -> Machine:
    """Record what the owner says about a machine that will come back here, and take its settings.

    A core that was reinstalled creates the machine. Points that this core took and the owner never
    received are marked as off the main line.

    Raises:
        OwnedElsewhere: this core knows another owner, or owns it itself.
        DelegationWrong: the machine is delegated to another core, or by another.
        FailbackRefused: another machine here has the name or the address.
    """
    claim = sent.claim_of(pairing)
    with transaction.atomic():
        machine = Machine.objects.select_for_update().filter(pk=machine_id).first()
        if machine is None:
            machine = _make_machine(machine_id, claim, sent)
        elif not accepts_claim(
            str(machine.owner_core_id),
            machine.ownership_epoch,
            claim.owner_core_id,
            claim.ownership_epoch,
        ):
            raise owned_elsewhere(machine)
        else:
            record_owner(machine.pk, claim)
            machine.save(update_fields=sent.copy_settings_to(machine))
        ReplicatedMachine.objects.get_or_create(pairing=pairing, machine=machine)
        machine.refresh_from_db()
        if sent.delegation_pem:
            keep_delegation(machine, sent.delegation_pem, pairing.peer_certificate_pem)
        if sent.point_ids is not UNSET:
            history.mark_by_history(machine, sent.point_ids, claim.ownership_epoch)
    return machine


def _make_machine(machine_id: uuid.UUID, claim: OwnershipClaim, sent: wire.SentMachine) -> Machine:
    name, host, port = sent.name, sent.host, sent.port
    if not host:
        raise PeerFaulty(f"The owner did not report the address of {name}.")
    if Machine.objects.filter(name=name, source_core_id=None).exists():
        raise FailbackRefused(f"{this_core().name} already protects another machine named {name}.")
    if Machine.objects.filter(kind=MachineKind.PROTECTED, host=host, port=port).exists():
        raise FailbackRefused(
            f"{this_core().name} already protects another machine at {host}:{port}."
        )
    logger.info("machine comes back to a new core machine_id=%s name=%s", machine_id, name)
    machine = Machine(
        pk=machine_id,
        kind=MachineKind.PROTECTED,
        owner_core_id=claim.owner_core_id,
        owner_core_name=claim.owner_core_name,
        ownership_epoch=claim.ownership_epoch,
        owned_since=claim.owned_since,
    )
    sent.copy_to(machine)
    machine.save(force_insert=True)
    return machine


def point_ids(pairing: Pairing, machine_id: uuid.UUID) -> tuple[uuid.UUID, ...]:
    """Return the points of a machine that this core holds; none if it does not know the machine."""
    found = RecoveryPoint.objects.filter(
        machine_id=machine_id, machine__replications__pairing=pairing
    )
    return tuple(found.usable().values_list("pk", flat=True))


def survey_rescue_machine(asked: wire.RescueAddress) -> wire.FoundRescueMachine:
    """Pair with a rescue machine at this core's site and describe its disks.

    Raises:
        FailbackRefused: it does not answer, the code is wrong, or it runs its own system.
    """
    try:
        rescue = rescue_machines.pair_target(asked.host, asked.port, asked.code)
    except (AgentError, ProtectedMachinesError) as error:
        raise FailbackRefused(str(error), error.code) from error
    return wire.FoundRescueMachine(
        target_id=rescue.pk, address=rescue.address, description=rescue.described
    )


def start_restore(
    pairing: Pairing, machine_id: uuid.UUID, asked: wire.RestoreRequest
) -> wire.JobStatus:
    """Start writing a point to a rescue machine; return the job, also if one is already running."""
    machine = get_machine_of(pairing, machine_id)
    params = RestoreDisksParams(
        point_id=asked.point_id,
        target_id=asked.target_id,
        since_point_id=asked.since_point_id,
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
        request_id=asked.request_id,
    )
    return status_of(job)


def restart_rescue_machine(
    pairing: Pairing, machine_id: uuid.UUID, chosen: wire.ChosenRescueMachine
) -> wire.Nothing:
    """Have the rescue machine start from its own disk."""
    get_machine_of(pairing, machine_id)
    try:
        restores_steps.restart_target(chosen.target_id)
    except (AgentError, StepFailed) as error:
        raise FailbackRefused(str(error), error.code) from error
    return wire.Nothing()


def ask_machine(
    pairing: Pairing, machine_id: uuid.UUID, chosen: wire.ChosenRescueMachine
) -> wire.MachineAnswer:
    """Report whether the machine's own agent answers this core at its new address.

    Raises:
        FailbackRefused: another agent answers there, or the agent refuses this core.
        PeerFaulty: the peer never sent the agent's certificate.
    """
    machine = get_machine_of(pairing, machine_id)
    _check_certificate(machine)
    try:
        agent = restores_steps.wait_for_machine(machine.pk, chosen.target_id)
    except Waiting as waiting:
        return wire.MachineAnswer(address=None, text=waiting.reason)
    except (AgentError, StepFailed) as error:
        raise FailbackRefused(str(error), error.code) from error
    address = wire.MachineAddress(host=agent.host, port=agent.port, description=agent.description)
    return wire.MachineAnswer(address=address)


def take_over(pairing: Pairing, machine_id: uuid.UUID, sent: wire.TakeOver) -> wire.Ownership:
    """Become the owner of a machine that the peer has handed over, and protect it where it runs.

    Raises:
        OwnedElsewhere: this core knows of a later owner.
        FailbackRefused: another machine here has the name or the address.
        PeerFaulty: the peer never introduced the machine, or never sent its agent's certificate.
    """
    replicated = get_replicated_of(pairing, machine_id)
    _check_certificate(replicated.machine)
    try:
        with transaction.atomic():
            machine = _protect_again(replicated, sent)
    except IntegrityError as error:
        raise FailbackRefused(
            f"{this_core().name} already protects another machine named "
            f"{replicated.machine.name}, or one at {sent.host}:{sent.port}."
        ) from error
    machine.refresh_from_db()
    logger.info(
        "took over machine_id=%s epoch=%s from=%s",
        machine.pk,
        machine.ownership_epoch,
        pairing.peer_name,
    )
    return wire.Ownership.of(machine)


def _protect_again(replicated: ReplicatedMachine, sent: wire.TakeOver) -> Machine:
    core, epoch, now = this_core(), sent.ownership_epoch, timezone.now()
    claim = OwnershipClaim(core.id, core.name, epoch, sent.owned_since or now)
    record_owner(replicated.machine_id, claim)
    machine = Machine.objects.select_for_update().get(pk=replicated.machine_id)
    if not machine.is_owned_here or machine.ownership_epoch != epoch:
        raise owned_elsewhere(machine)
    Machine.objects.filter(pk=machine.pk).update(kind=MachineKind.PROTECTED, source_core_id=None)
    agent = connection.AnsweringAgent(sent.host, sent.port, sent.description)
    connection.record_address(machine.pk, agent)
    replicated.note_up_to_date(now)
    return machine


def _check_certificate(machine: Machine) -> None:
    if not machine.agent_certificate_pem:
        raise PeerFaulty(f"The owner did not send the certificate of {machine.name}'s agent.")


def start_snapshot(
    pairing: Pairing, machine_id: uuid.UUID, asked: wire.SnapshotRequest
) -> wire.JobStatus:
    """Force a snapshot of a machine that came back; return the job, also if one already runs."""
    machine = get_replicated_of(pairing, machine_id).machine
    try:
        job = start_job(
            "snapshot",
            machine.pk,
            machine.name,
            SnapshotParams(kind=PointKind.INCREMENTAL),
            request_id=asked.request_id,
        )
    except JobConflict as conflict:
        if not isinstance(conflict.job, Job) or conflict.job.kind != "snapshot":
            raise FailbackRefused(conflict.text, conflict.code) from conflict
        job = conflict.job
    return status_of(job)


def show_job(pairing: Pairing, machine_id: uuid.UUID, job_id: uuid.UUID) -> wire.JobStatus:
    """Return the status of a job of this failback."""
    get_replicated_of(pairing, machine_id)
    return status_of(_job_of(machine_id, job_id))


def stop_job(pairing: Pairing, machine_id: uuid.UUID, job_id: uuid.UUID) -> wire.JobStatus:
    """Cancel a job of this failback; a finished one stays as it is."""
    get_replicated_of(pairing, machine_id)
    job = _job_of(machine_id, job_id)
    if job.state in OPEN:
        try:
            cancel_job(job, None)
        except JobError as error:
            logger.info("job not cancelled job=%s reason=%s", job.pk, error)
    return status_of(job)


def status_of(job: Job) -> wire.JobStatus:
    """Return the status of a job, for the other core to show and to wait for."""
    job.refresh_from_db()
    steps = list(job.steps.all())
    at = next((step for step in steps if step.name == job.current_step), None)
    outputs = {step.name: step.output for step in steps if step.state == StepState.SUCCEEDED}
    return wire.JobStatus(
        job_id=job.pk,
        state=JobState(job.state),
        step_title=at.title if at is not None else "",
        note=at.note if at is not None else "",
        done_bytes=job.done_bytes,
        total_bytes=job.total_bytes,
        error_code=job.error_code,
        error_text=job.error_text,
        outputs=wire.JobOutputs.from_json(outputs),
    )


def _job_of(machine_id: uuid.UUID, job_id: uuid.UUID) -> Job:
    job = Job.objects.filter(pk=job_id, subject_id=machine_id, kind__in=_KINDS_SHOWN).first()
    if job is None:
        raise PeerFaulty(f"Machine {machine_id} has no such job here: {job_id}.")
    return job
