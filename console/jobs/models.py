"""Rows of jobs: what was requested, how far it is, and the log, which is the truth about it.

Only `journal.py` (events) and the compare-and-set methods here (leases) write these rows.
"""

import datetime
import uuid
from collections.abc import Iterable

from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from console.jobs.choices import (
    OPEN,
    RUNNABLE,
    TERMINAL,
    EventType,
    JobState,
    Queue,
    StepState,
    UndoKind,
)
from console.jobs.plan import LONGEST_WAIT_SECONDS
from console.jobs.workflow import Workflow, find_workflow, get_workflow


class JobQuerySet(models.QuerySet["Job"]):
    def open(self) -> "JobQuerySet":
        """Jobs that still have something to do."""
        return self.filter(state__in=OPEN)

    def runnable(self) -> "JobQuerySet":
        """Open jobs that are not held."""
        return self.filter(state__in=RUNNABLE)

    def finished(self) -> "JobQuerySet":
        return self.filter(state__in=TERMINAL)

    def open_for(self, subject_id: uuid.UUID) -> "JobQuerySet":
        """Open jobs of one subject, oldest first."""
        return self.open().filter(subject_id=subject_id).order_by("created_at")

    def in_group(self, group_id: uuid.UUID) -> "JobQuerySet":
        """Jobs that were started together, ordered by the name of their subject."""
        return self.filter(group_id=group_id).order_by("subject_name", "created_at")

    def claimable(self, now: datetime.datetime) -> "JobQuerySet":
        """Open jobs that are due and that no live worker holds."""
        return self.runnable().filter(
            Q(lease_until__isnull=True) | Q(lease_until__lt=now),
            # A second of tolerance: another host's clock may be slightly ahead.
            Q(wake_at__isnull=True)
            | Q(wake_at__lte=now + datetime.timedelta(seconds=1))
            | Q(wake_at__gt=now + datetime.timedelta(seconds=LONGEST_WAIT_SECONDS)),
        )

    def claim(
        self, job_id: uuid.UUID, owner: str, now: datetime.datetime, lease_seconds: float
    ) -> bool:
        """Try to take the lease of a job; return whether it worked. At most one caller gets it."""
        return bool(
            self.claimable(now)
            .filter(id=job_id)
            .update(
                lease_owner=owner,
                lease_until=now + datetime.timedelta(seconds=lease_seconds),
                wake_at=None,
                send_count=0,
            )
        )

    def make_exclusive(self, job_id: uuid.UUID) -> bool:
        """Make this the subject's exclusive job; return False while another one is open."""
        try:
            with transaction.atomic():
                self.filter(id=job_id).update(is_exclusive=True)
        except IntegrityError:
            return False
        return True

    def find_exclusive(self, subject_id: uuid.UUID) -> "Job | None":
        """Return the open exclusive job of a subject."""
        return self.open_for(subject_id).filter(is_exclusive=True).first()

    def renew(
        self, job_id: uuid.UUID, owner: str, now: datetime.datetime, lease_seconds: float
    ) -> bool:
        """Renew a lease; return False if it is lost."""
        until = now + datetime.timedelta(seconds=lease_seconds)
        return bool(self.filter(id=job_id, lease_owner=owner).update(lease_until=until))

    def doubt_lease(
        self, job_id: uuid.UUID, until: datetime.datetime, now: datetime.datetime, seconds: float
    ) -> bool:
        """Let a lease end one lease from now; a worker that lives renews it before."""
        return bool(
            self.filter(id=job_id, lease_until=until).update(
                lease_until=now + datetime.timedelta(seconds=seconds), sent_at=now, send_count=1
            )
        )

    def release(
        self,
        job_id: uuid.UUID,
        owner: str,
        wake_at: datetime.datetime | None,
        now: datetime.datetime,
    ) -> bool:
        """Release a lease; return False if it was already lost."""
        return bool(
            self.filter(id=job_id, lease_owner=owner).update(
                lease_owner="", lease_until=None, wake_at=wake_at, sent_at=now, send_count=1
            )
        )


class Job(models.Model):
    """Work on one subject that takes longer than a page request, done by one workflow.

    queued ──▶ running ──▶ succeeded
                  │  └──▶ needs_attention ──▶ running (retry) │ unwinding (undo) │ failed (closed)
                  ▼              ▲
              unwinding ─────────┘
                  └──▶ failed (everything is as before)

    queued, running, unwinding ──▶ held ──▶ (released) as before │ failed (closed)
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=60)
    plan_version = models.PositiveIntegerField()
    title = models.CharField(max_length=120)
    queue = models.CharField(max_length=20, choices=Queue.choices)
    is_exclusive = models.BooleanField()
    subject_id = models.UUIDField()
    subject_name = models.CharField(max_length=255)
    group_id = models.UUIDField(null=True, blank=True)
    params = models.JSONField()
    request_id = models.UUIDField(null=True, blank=True, unique=True)
    # Why, as a person said it.
    reason = models.TextField(blank=True, default="")
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
    )
    retry_of = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="retries"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # Projection of the events.
    state = models.CharField(max_length=20, choices=JobState.choices, default=JobState.QUEUED)
    current_step = models.CharField(max_length=60, blank=True)
    is_cancel_requested = models.BooleanField(default=False)
    is_past_return = models.BooleanField(default=False)
    error_code = models.CharField(max_length=60, blank=True)
    error_text = models.TextField(blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    last_event_number = models.PositiveIntegerField(default=0)
    # It rises with every event and whenever progress is saved; `seen.py` has what pages compare.
    revision = models.PositiveIntegerField(default=0)
    done_bytes = models.BigIntegerField(default=0)
    total_bytes = models.BigIntegerField(null=True, blank=True)
    rate_bps = models.BigIntegerField(null=True, blank=True)
    progress_at = models.DateTimeField(null=True, blank=True)
    # The lease, and the next wake-up.
    lease_owner = models.CharField(max_length=120, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    wake_at = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    send_count = models.PositiveIntegerField(default=0)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["subject_id"],
                condition=Q(is_exclusive=True, state__in=[str(state) for state in OPEN]),
                name="jobs_one_open_exclusive_job",
                violation_error_message="Another job of this machine is running.",
            ),
            models.CheckConstraint(
                condition=Q(state__in=JobState.values), name="jobs_state_is_known"
            ),
        ]
        indexes = [
            models.Index(fields=["state", "-created_at"], name="jobs_by_state"),
            models.Index(fields=["subject_id", "-created_at"], name="jobs_by_subject"),
            models.Index(fields=["group_id"], name="jobs_by_group"),
            models.Index(fields=["-created_at", "id"], name="jobs_newest_first"),
        ]

    def __str__(self) -> str:
        return f"{self.title}: {self.subject_name}"

    def get_absolute_url(self) -> str:
        return reverse("jobs:job", args=[self.id])

    @property
    def workflow(self) -> Workflow:
        """The workflow, in the version that this job started with.

        Raises:
            UnknownWorkflow: this process does not know it.
        """
        return get_workflow(self.kind, self.plan_version)

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    @property
    def is_finished(self) -> bool:
        return not self.is_open

    @property
    def is_cancelled(self) -> bool:
        return self.state == JobState.FAILED and self.is_cancel_requested

    @property
    def subject_url(self) -> str:
        """The page of the subject; empty if its workflow has none."""
        workflow = find_workflow(self.kind, self.plan_version)
        if workflow is None or not workflow.subject_url_name:
            return ""
        return reverse(workflow.subject_url_name, args=[self.subject_id])

    @property
    def workflow_problem(self) -> str:
        """Why no worker of this version can run the job; empty if one can."""
        if self.is_finished or find_workflow(self.kind, self.plan_version) is not None:
            return ""
        return (
            f"This version of Understudy has no workflow “{self.kind}” version "
            f"{self.plan_version}. The job continues when a worker of the version that started it "
            "is running again."
        )

    @property
    def seconds(self) -> float | None:
        """How long it took, or has taken so far; None before it started."""
        if self.started_at is None:
            return None
        return max(0.0, ((self.finished_at or timezone.now()) - self.started_at).total_seconds())

    @property
    def point_of_no_return(self) -> str:
        """The name of the first irreversible step; empty if there is none."""
        names = (step.name for step in self.steps.all() if step.undo_kind == UndoKind.IRREVERSIBLE)
        return next(names, "")

    @property
    def requested_by_name(self) -> str:
        """Who requested the job, as shown on pages and in logs."""
        return self.requested_by.get_username() if self.requested_by else "the system"


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """Sort jobs of one subject and purpose, oldest first, whatever the clock showed meanwhile.

    A retry comes after what it retries, and nothing comes after what is open or has succeeded.
    """
    by_id = {job.id: job for job in jobs}

    def place(job: Job) -> tuple[bool, datetime.datetime, int]:
        is_last = job.is_open or job.state == JobState.SUCCEEDED
        created_at, retries = job.created_at, 0
        while job.retry_of_id in by_id:
            job, retries = by_id[job.retry_of_id], retries + 1
            created_at = max(created_at, job.created_at)
        return is_last, created_at, retries

    return sorted(by_id.values(), key=place)


class JobStep(models.Model):
    """One step of a job: a projection of the events, for pages.

    pending ──▶ running ◀──▶ waiting; running ──▶ succeeded │ failed │ interrupted
    succeeded ──▶ undoing ──▶ undone │ undo_failed; undo_failed ──▶ undoing
    """

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="steps")
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=60)
    title = models.CharField(max_length=200)
    undo_kind = models.CharField(max_length=20, choices=UndoKind.choices)
    undo_reason = models.TextField(blank=True)
    state = models.CharField(max_length=20, choices=StepState.choices, default=StepState.PENDING)
    attempt = models.PositiveIntegerField(default=0)
    undo_attempt = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    done_bytes = models.BigIntegerField(default=0)
    total_bytes = models.BigIntegerField(null=True, blank=True)
    note = models.TextField(blank=True)
    error_code = models.CharField(max_length=60, blank=True)
    error_text = models.TextField(blank=True)
    output = models.JSONField(null=True, blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["job", "name"], name="jobs_step_once_per_job"),
        ]

    def __str__(self) -> str:
        return f"{self.title} ({self.get_state_display()})"

    @property
    def seconds(self) -> float | None:
        """How long it took, or has taken so far; None before it started."""
        if self.started_at is None:
            return None
        return max(0.0, ((self.finished_at or timezone.now()) - self.started_at).total_seconds())

    @property
    def is_active(self) -> bool:
        """Whether it is in progress; its live figures are then the job's."""
        return self.state in (StepState.RUNNING, StepState.WAITING, StepState.UNDOING)


class JobEvent(models.Model):
    """One entry in a job's log. Entries are only ever added: they are the truth about the job."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="events")
    number = models.PositiveIntegerField()
    step = models.CharField(max_length=60, blank=True)
    type = models.CharField(max_length=20, choices=EventType.choices)
    payload = models.JSONField(default=dict)
    at = models.DateTimeField()

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["job", "number"], name="jobs_event_number_once"),
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.step} {self.type}"


class Generation(models.Model):
    """How many changes this database has seen that a restored one must not undo; one row."""

    number = models.PositiveBigIntegerField()

    def __str__(self) -> str:
        return str(self.number)
