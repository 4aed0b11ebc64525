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
from console.audit.log import Subject, record
from console.identity import this_core
from console.jobs.acts import cancel_job, start_job
from console.jobs.choices import OPEN, JobState, StepState
from console.jobs.errors import JobConflict, JobError
from console.jobs.models import Job
from console.jobs.workflow import StepFailed, Waiting
from protected_machines.agents import connection
from protected_machines.agents.delegation import keep_delegation
from protected_machines.agents.finding import Place
from protected_machines.choices import MachineKind, PointKind
from protected_machines.claims import OwnershipClaim
from protected_machines.errors import ProtectedMachinesError
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.points.workflow import SnapshotParams
from protected_machines.restores import rescue_machines
from protected_machines.restores import steps as restores_steps
from protected_machines.restores.workflow import RestoreDisksParams
from replication.errors import FailbackRefused, PeerFaulty
from replication.models import Pairing, ReplicatedMachine
from replication.peers import wire
from replication.peers.claims import hear_from
from replication.transfer import history
from replication.transfer.receiving import (
    get_machine_of,
    get_replicated_of,
    hear_owner,
    owned_elsewhere,
)

logger = logging.getLogger(__name__)

_KINDS_SHOWN = ("restore_disks", "snapshot")


def accept_machine(pairing: Pairing, machine_id: uuid.UUID, sent: wire.SentMachine) -> Machine:
    """Record what the owner says about a machine that will come back here, and take its settings.

    A core that was reinstalled creates the machine. Points that this core took and the owner never
    received are marked as off the main line.

    Raises:
        OwnedElsewhere: this core knows another owner, or owns it itself.
        PeerFaulty: the peer owns the machine, but states an epoch that cannot be.
        DelegationWrong: the machine is delegated to another core, or by another.
        FailbackRefused: another machine here has the name or the address.
    """
    claim = sent.claim_of(pairing)
    hear_owner(pairing, machine_id, claim)
    with transaction.atomic():
        machine = Machine.objects.select_for_update().filter(pk=machine_id).first()
        if machine is None:
            machine = _make_machine(machine_id, claim, sent)
        elif machine.owner_core_id != pairing.peer_core_id:
            raise owned_elsewhere(machine)
        else:
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
    record(
        "core-interface:machine",
        f"{claim.owner_core_name} introduced {machine.name}, which it owns.",
        Subject("machine", str(machine.pk), machine.name),
    )
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
    pairing: Pairing, machine_id: uuid.UUID, sought: wire.SoughtMachine
) -> wire.MachineAnswer:
    """Report whether the machine's own agent answers this core at its new address.

    Raises:
        FailbackRefused: another agent answers there, or the agent refuses this core.
        PeerFaulty: the peer never sent the agent's certificate.
    """
    machine = get_machine_of(pairing, machine_id)
    _check_certificate(machine)
    try:
        told_by = f"typed at {pairing.peer_name}"
        typed = [Place(sought.host, sought.port, told_by, is_typed=True)] if sought.host else []
        agent = restores_steps.wait_for_machine(machine.pk, sought.target_id, typed)
    except Waiting as waiting:
        return wire.MachineAnswer(address=None, text=waiting.reason)
    except (AgentError, StepFailed) as error:
        raise FailbackRefused(str(error), error.code) from error
    address = wire.MachineAddress(host=agent.host, port=agent.port, description=agent.description)
    return wire.MachineAnswer(address=address)


def take_over(pairing: Pairing, machine_id: uuid.UUID, sent: wire.TakeOver) -> wire.Ownership:
    """Become the owner of a machine that the peer has handed over, and protect it where it runs.

    Raises:
        OwnedElsewhere: this core knows another owner, or the peer did not give it the machine.
        FailbackRefused: another machine here has the name or the address.
        PeerFaulty: the peer never introduced the machine, or never sent its agent's certificate.
    """
    replicated = get_replicated_of(pairing, machine_id)
    machine = replicated.machine
    _check_certificate(machine)
    try:
        with transaction.atomic():
            is_given = _hear_hand_over(pairing, machine, sent)
            if is_given:
                _protect_again(replicated, sent)
    except IntegrityError as error:
        raise FailbackRefused(
            f"{this_core().name} already protects another machine named "
            f"{machine.name}, or one at {sent.host}:{sent.port}."
        ) from error
    machine.refresh_from_db()
    if not is_given:
        raise owned_elsewhere(machine)
    logger.info(
        "took over machine_id=%s epoch=%s from=%s",
        machine.pk,
        machine.ownership_epoch,
        pairing.peer_name,
    )
    return wire.Ownership.of(machine)


def _hear_hand_over(pairing: Pairing, machine: Machine, sent: wire.TakeOver) -> bool:
    """Record that this core owns the machine now; return whether the peer gave it.

    A dispute is recorded too. The peer gave the machine if it owned it until now. When it repeats
    the call, this core owns the machine already, and has protected it nowhere else since.
    """
    core, epoch = this_core(), sent.ownership_epoch
    was_peers = machine.owner_core_id == pairing.peer_core_id
    was_epoch = machine.ownership_epoch
    since = sent.owned_since or timezone.now()
    hear_from(pairing, machine, OwnershipClaim(core.id, core.name, epoch, since))
    if machine.is_disputed or not machine.is_owned_here or machine.ownership_epoch != epoch:
        return False
    if was_peers:
        return True
    is_where_it_was = (machine.host, machine.port) == (sent.host, sent.port)
    has_points = machine.points.filter(ownership_epoch=epoch).exists()
    return was_epoch == epoch > 1 and (is_where_it_was or not has_points)


def _protect_again(replicated: ReplicatedMachine, sent: wire.TakeOver) -> None:
    machine_id = replicated.machine_id
    Machine.objects.filter(pk=machine_id).update(kind=MachineKind.PROTECTED, source_core_id=None)
    agent = connection.AnsweringAgent(sent.host, sent.port, sent.description)
    connection.record_address(machine_id, agent)
    replicated.note_up_to_date(timezone.now())


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
