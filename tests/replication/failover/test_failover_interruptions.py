"""A failover whose vCenter restarts, ends sessions or refuses the account goes on afterwards."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from console.jobs.acts import start_job
from console.jobs.choices import JobState
from console.jobs.doors import doors
from console.jobs.models import Job
from console.jobs.testing import log_of, run_until_done
from console.jobs.workflow import Step, StepAction
from lab.vcsim.process import Vcsim
from protected_machines.exports.options import VmOptions
from protected_machines.models import Machine, VCenter
from replication.failover.workflow import FailoverParams
from replication.models import Failover, ReplicatedMachine
from tests.places.guests import Guests

pytestmark = pytest.mark.slow

# The steps that act in vSphere or look into it.
VCENTER_STEPS = ("export_vm", "power_on", "wait_for_guest", "reboot_guest", "wait_for_agent")


@pytest.fixture
def job(replica: ReplicatedMachine, options: VmOptions) -> Job:
    """A failover that has not begun."""
    failover = Failover.objects.create(pairing=replica.pairing, request_id=uuid.uuid4())
    point = replica.machine.points.first()
    assert point is not None
    params = FailoverParams(failover.pk, replica.pairing_id, point.pk, options)
    return start_job("failover", replica.machine_id, "db-01", params, group_id=failover.pk)


class Interruptions:
    """Does something to the vCenter before each step that needs it, and amid the first upload."""

    def __init__(self, before: Callable[[], Any], midway: Callable[[], Any]) -> None:
        self.before = before
        self.midway = midway
        self.interrupted: list[str] = []

    def call(self, step: Step, action: StepAction, context: Any, undo: bool) -> Any:
        if step.name in VCENTER_STEPS and step.name not in self.interrupted:
            self.interrupted.append(step.name)
            self.before()
        if step.name == "export_vm" and "midway" not in self.interrupted:
            context = Midway(context, self.interrupt_midway)
        return action(context)

    def interrupt_midway(self) -> None:
        if "midway" not in self.interrupted:
            self.interrupted.append("midway")
            self.midway()


class Midway:
    """The context of a step that calls a function at its bytes."""

    def __init__(self, context: Any, then: Callable[[], Any]) -> None:
        self._context = context
        self._then = then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def progress(self, done_bytes: int, total_bytes: int | None = None) -> None:
        self._context.progress(done_bytes, total_bytes)
        self._then()


def test_a_vcenter_that_restarts_and_ends_the_session_in_every_step_undoes_nothing(
    job: Job, vcsim: Vcsim, guests: Guests
) -> None:
    """In each step it restarts, and so ends the session; in the export, during the upload, too."""
    interruptions = Interruptions(
        before=lambda: vcsim.faults(restart_ms=700),
        midway=lambda: vcsim.faults(restart_ms=600),
    )
    previous = doors.call
    doors.call = interruptions.call
    try:
        done = run_until_done(job, limit_seconds=100)
    finally:
        doors.call = previous
        vcsim.no_faults()
    assert done.state == JobState.SUCCEEDED, log_of(done)
    assert interruptions.interrupted == ["export_vm", "midway", *VCENTER_STEPS[1:]]
    assert guests.names() == ["db-01 poweredOn"]
    assert not done.events.filter(type="undo_started").exists()
    waited = set(done.events.filter(type="waiting").values_list("step", flat=True))
    assert waited >= set(VCENTER_STEPS)


def test_a_refused_account_stops_a_failover_until_it_is_changed(
    job: Job, vcsim: Vcsim, vcenter: VCenter, guests: Guests
) -> None:
    """The password is tried once, however often the job looks whether it has been changed."""
    right = vcenter.password_encrypted
    VCenter.objects.update(password_encrypted=_encrypted(vcenter, "another"))
    before = vcsim.served()["refused"]
    with pytest.raises(AssertionError, match="did not finish"):
        run_until_done(job, limit_seconds=2)
    step = job.steps.get(name="export_vm")
    assert step.state == "waiting"
    assert "refused the account" in step.note
    assert vcsim.served()["refused"] == before + 1
    VCenter.objects.update(password_encrypted=right, refused_text="")
    done = run_until_done(job, limit_seconds=60)
    assert done.state == JobState.SUCCEEDED, log_of(done)
    assert Machine.objects.get(pk=job.subject_id).vcenter == vcenter


def _encrypted(vcenter: VCenter, password: str) -> str:
    vcenter.password = password
    return vcenter.password_encrypted
