"""A failback as its page shows it: each machine's jobs, its outcome, and what can be done now.

Buttons are greyed out for the same reasons for which `end` refuses.
"""

import datetime
from dataclasses import dataclass

from console.jobs import policy as job_policy
from console.jobs.choices import STUCK, JobState, StepState
from console.jobs.models import Job, in_order
from console.jobs.policy import Act
from console.jobs.seen import shown_revision
from protected_machines.ownership import settle_first
from replication.choices import FailbackOutcome, FailbackState
from replication.models import Failback, FailbackMachine

_TONES = {
    FailbackOutcome.FAILED_BACK: "warn",
    FailbackOutcome.COMMITTED: "ok",
    FailbackOutcome.ROLLED_BACK: "off",
    FailbackOutcome.FAILED: "bad",
    FailbackOutcome.NEEDS_ATTENTION: "bad",
}
_ENDED = (
    FailbackOutcome.FAILED_BACK,
    FailbackOutcome.COMMITTED,
    FailbackOutcome.ROLLED_BACK,
)


@dataclass
class MachineFailback:
    """One machine of a failback: its newest failback job, and its commit or roll back, if any."""

    entry: FailbackMachine
    job: Job | None
    end_job: Job | None
    attempts: int

    @property
    def outcome(self) -> FailbackOutcome:
        if self.entry.state == FailbackState.COMMITTED:
            return FailbackOutcome.COMMITTED
        if self.end_job is not None and self.end_job.state != JobState.FAILED:
            return self._outcome_of_end(self.end_job)
        if self.entry.state == FailbackState.ROLLED_BACK:
            return FailbackOutcome.ROLLED_BACK
        return self._outcome_of_job()

    def _outcome_of_end(self, job: Job) -> FailbackOutcome:
        if job.state in STUCK:
            return FailbackOutcome.NEEDS_ATTENTION
        if job.state == JobState.UNWINDING:
            return FailbackOutcome.UNWINDING
        if job.kind == "failback_commit":
            return FailbackOutcome.COMMITTING
        if job.state == JobState.SUCCEEDED:
            return FailbackOutcome.ROLLED_BACK
        return FailbackOutcome.ROLLING_BACK

    def _outcome_of_job(self) -> FailbackOutcome:
        if self.job is None or self.job.state == JobState.FAILED:
            is_back = self.entry.state == FailbackState.FAILED_BACK
            return FailbackOutcome.FAILED_BACK if is_back else FailbackOutcome.FAILED
        if self.job.state == JobState.RUNNING:
            is_restoring = self.job.current_step in RESTORING_STEPS
            return FailbackOutcome.RESTORING if is_restoring else FailbackOutcome.PENDING
        return {
            JobState.QUEUED: FailbackOutcome.WAITING,
            JobState.UNWINDING: FailbackOutcome.UNWINDING,
            JobState.SUCCEEDED: FailbackOutcome.FAILED_BACK,
            JobState.NEEDS_ATTENTION: FailbackOutcome.NEEDS_ATTENTION,
            JobState.HELD: FailbackOutcome.NEEDS_ATTENTION,
        }[JobState(self.job.state)]

    @property
    def tone(self) -> str:
        return _TONES.get(self.outcome, "busy")

    @property
    def shown_job(self) -> Job | None:
        """The job whose steps are shown first."""
        return self.end_job or self.job

    @property
    def is_open(self) -> bool:
        return any(job is not None and job.is_open for job in (self.job, self.end_job))

    @property
    def acts(self) -> job_policy.Acts | None:
        return job_policy.possible_acts(self.shown_job) if self.shown_job else None

    @property
    def commit(self) -> Act:
        return Act(refuse_commit(self.entry, self.job, self.end_job))

    @property
    def roll_back(self) -> Act:
        return Act(refuse_roll_back(self.entry, self.job, self.end_job))

    @property
    def address(self) -> str:
        """Where the machine answers its source core now."""
        if self.job is None:
            return ""
        for step in self.job.steps.all():
            if step.name == "accept_at_source" and step.output:
                return f"{step.output['host']}:{step.output['port']}"
        return ""

    @property
    def may_run_there(self) -> bool:
        """Whether the computer at the source may have started, though the machine runs here."""
        if self.outcome != FailbackOutcome.FAILED or self.job is None:
            return False
        return any(
            step.name == "boot_machine" and step.started_at is not None
            for step in self.job.steps.all()
        )

    @property
    def down_seconds(self) -> float | None:
        """How long the machine was down; none until it has started at its source."""
        if self.job is None:
            return None
        steps = {step.name: step for step in self.job.steps.all()}
        begun, ended = steps.get("final_point"), steps.get("boot_machine")
        if begun is None or ended is None or begun.started_at is None:
            return None
        if ended.state != StepState.SUCCEEDED or ended.finished_at is None:
            return None
        return (ended.finished_at - begun.started_at).total_seconds()


@dataclass
class FailbackProgress:
    """A failback with all its machines."""

    failback: Failback
    machines: list[MachineFailback]

    @property
    def revision(self) -> str:
        """A text that changes whenever one of its machines looks different."""
        return shown_revision(
            [job for one in self.machines for job in (one.job, one.end_job)],
            [(one.attempts, one.entry.state) for one in self.machines],
        )

    @property
    def is_open(self) -> bool:
        return any(one.is_open for one in self.machines)

    @property
    def step_count(self) -> int:
        return sum(len(one.shown_job.steps.all()) for one in self.machines if one.shown_job)

    @property
    def done_step_count(self) -> int:
        return sum(
            step.state == StepState.SUCCEEDED
            for one in self.machines
            if one.shown_job
            for step in one.shown_job.steps.all()
        )

    def count(self, *outcomes: FailbackOutcome) -> int:
        return sum(one.outcome in outcomes for one in self.machines)

    @property
    def back_count(self) -> int:
        return self.count(FailbackOutcome.FAILED_BACK, FailbackOutcome.COMMITTED)

    @property
    def uncommitted_count(self) -> int:
        return self.count(FailbackOutcome.FAILED_BACK)

    @property
    def committed_count(self) -> int:
        return self.count(FailbackOutcome.COMMITTED)

    @property
    def rolled_back_count(self) -> int:
        return self.count(FailbackOutcome.ROLLED_BACK)

    @property
    def failed_count(self) -> int:
        return self.count(FailbackOutcome.FAILED)

    @property
    def attention_count(self) -> int:
        return self.count(FailbackOutcome.NEEDS_ATTENTION)

    @property
    def commit_at(self) -> datetime.datetime | None:
        """When the first machine's commit is due; none if no machine waits for one."""
        times = [
            one.entry.commit_at
            for one in self.machines
            if one.outcome == FailbackOutcome.FAILED_BACK and one.entry.commit_at is not None
        ]
        return min(times, default=None)


def refuse_commit(entry: FailbackMachine, job: Job | None, end_job: Job | None) -> str:
    """Return why this machine's failback cannot be committed now; empty if it can."""
    refusal = _refuse_end(entry, job, end_job)
    if refusal:
        return refusal
    if job is not None and job.state == JobState.NEEDS_ATTENTION:
        return "The machine is not protected at its source yet. Retry first, or roll back."
    return ""


def refuse_roll_back(entry: FailbackMachine, job: Job | None, end_job: Job | None) -> str:
    """Return why this machine's failback cannot be rolled back now; empty if it can."""
    return _refuse_end(entry, job, end_job)


def _refuse_end(entry: FailbackMachine, job: Job | None, end_job: Job | None) -> str:
    if entry.state == FailbackState.COMMITTED:
        return "The failback is committed: the VM has been removed."
    if entry.state == FailbackState.ROLLED_BACK:
        return "The failback has already been rolled back."
    if end_job is not None and end_job.is_open:
        return f"{end_job.title} is in progress."
    if end_job is not None and end_job.state == JobState.NEEDS_ATTENTION:
        return f"{end_job.title} needs attention. Resolve that first."
    unsettled = settle_first(entry.machine)
    if unsettled:
        return unsettled
    if job is not None and job.is_open:
        return (
            "The failback is in progress. Until the machine is handed over, Cancel undoes "
            "everything."
        )
    if entry.state != FailbackState.FAILED_BACK:
        return "The machine has not failed back."
    return ""


def gather_failback(failback: Failback) -> FailbackProgress:
    """Return the progress of a failback; a machine that was retried shows its newest jobs."""
    jobs: dict[object, list[Job]] = {}
    found = (
        Job.objects.in_group(failback.pk)
        .select_related("requested_by", "retry_of")
        .prefetch_related("steps")
    )
    for job in in_order(found):
        jobs.setdefault(job.subject_id, []).append(job)
    entries = failback.machines.select_related("machine", "failback")
    return FailbackProgress(
        failback, [_machine_progress(entry, jobs.get(entry.machine_id, [])) for entry in entries]
    )


def _machine_progress(entry: FailbackMachine, jobs: list[Job]) -> MachineFailback:
    failbacks = [job for job in jobs if job.kind == "failback"]
    ends = [job for job in jobs if job.kind != "failback"]
    return MachineFailback(
        entry,
        failbacks[-1] if failbacks else None,
        ends[-1] if ends else None,
        len(jobs),
    )


# The steps of a failback that write to the rescue machine and start it.
RESTORING_STEPS = (
    "restore_disks",
    "restore_running_delta",
    "restore_final_delta",
    "boot_machine",
)
