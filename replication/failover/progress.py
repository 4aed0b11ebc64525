"""A failover as its page shows it: each machine's job, its outcome, and what can be done now."""

from dataclasses import dataclass

from console.jobs import policy as job_policy
from console.jobs.choices import JobState, StepState
from console.jobs.models import Job, in_order
from console.jobs.seen import shown_revision
from replication.choices import FailoverOutcome
from replication.models import Failover, FailoverMachine

_OUTCOMES = {
    JobState.QUEUED: FailoverOutcome.WAITING,
    JobState.RUNNING: FailoverOutcome.RUNNING,
    JobState.UNWINDING: FailoverOutcome.UNWINDING,
    JobState.SUCCEEDED: FailoverOutcome.DONE,
    JobState.FAILED: FailoverOutcome.FAILED,
    JobState.NEEDS_ATTENTION: FailoverOutcome.NEEDS_ATTENTION,
    JobState.HELD: FailoverOutcome.NEEDS_ATTENTION,
}
_TONES = {
    FailoverOutcome.WAITING: "busy",
    FailoverOutcome.RUNNING: "busy",
    FailoverOutcome.UNWINDING: "busy",
    FailoverOutcome.DONE: "ok",
    FailoverOutcome.FAILED: "bad",
    FailoverOutcome.NEEDS_ATTENTION: "bad",
}


@dataclass
class MachineFailover:
    """One machine of a failover with its newest job; none only if the job has been removed."""

    entry: FailoverMachine
    job: Job | None
    attempts: int

    @property
    def outcome(self) -> FailoverOutcome:
        state = JobState(self.job.state) if self.job else JobState.FAILED
        return _OUTCOMES[state]

    @property
    def tone(self) -> str:
        return _TONES[self.outcome]

    @property
    def acts(self) -> job_policy.Acts | None:
        return job_policy.possible_acts(self.job) if self.job else None

    @property
    def address(self) -> str:
        """Where the machine answers now, from the output of the step that protects it here."""
        if self.job is None:
            return ""
        for step in self.job.steps.all():
            if step.name == "protect_here" and step.output:
                return f"{step.output['host']}:{step.output['port']}"
        return ""


@dataclass
class FailoverProgress:
    """A failover with all its machines."""

    failover: Failover
    machines: list[MachineFailover]

    @property
    def revision(self) -> str:
        """A text that changes whenever one of its jobs looks different."""
        return shown_revision(
            [one.job for one in self.machines], [one.attempts for one in self.machines]
        )

    @property
    def is_open(self) -> bool:
        return any(one.job is not None and one.job.is_open for one in self.machines)

    @property
    def step_count(self) -> int:
        return sum(len(one.job.steps.all()) for one in self.machines if one.job)

    @property
    def done_step_count(self) -> int:
        """How many steps of all machines are done; undone steps do not count."""
        return sum(
            step.state == StepState.SUCCEEDED
            for one in self.machines
            if one.job
            for step in one.job.steps.all()
        )

    @property
    def done_count(self) -> int:
        return sum(one.outcome == FailoverOutcome.DONE for one in self.machines)

    @property
    def failed_count(self) -> int:
        return sum(one.outcome == FailoverOutcome.FAILED for one in self.machines)

    @property
    def attention_count(self) -> int:
        return sum(one.outcome == FailoverOutcome.NEEDS_ATTENTION for one in self.machines)


def gather_progress(failover: Failover) -> FailoverProgress:
    """Return the progress of a failover; a machine that was retried shows its newest job."""
    jobs: dict[object, list[Job]] = {}
    found = (
        Job.objects.in_group(failover.pk)
        .select_related("requested_by", "retry_of")
        .prefetch_related("steps")
    )
    for job in in_order(found):
        jobs.setdefault(job.subject_id, []).append(job)
    entries = failover.machines.select_related("machine", "machine__vcenter")
    return FailoverProgress(
        failover,
        [
            MachineFailover(
                entry,
                jobs[entry.machine_id][-1] if entry.machine_id in jobs else None,
                len(jobs.get(entry.machine_id, [])),
            )
            for entry in entries
        ],
    )
