"""Commit failbacks or roll them back: on request, or when the commit deadline passes."""

import datetime
import logging
import uuid

from django.db.models import F

from console.isolation import isolate_each
from console.jobs.acts import User, close_job, start_job
from console.jobs.choices import JobState
from console.jobs.errors import JobConflict
from console.jobs.models import Job
from protected_machines.choices import MachineKind
from replication.choices import FailbackState
from replication.failback.end_workflow import FailbackEndParams
from replication.failback.progress import gather_failback
from replication.models import FailbackMachine

logger = logging.getLogger(__name__)

COMMIT, ROLL_BACK = "failback_commit", "failback_roll_back"
# How long to wait before a commit that was due and failed is tried again.
_AGAIN_SECONDS = 3600


def end_failback(entry: FailbackMachine, kind: str, requested_by: User = None) -> Job:
    """Start the job that commits one machine's failback, or rolls it back.

    Rolling back closes a failback job that needs attention after the hand-over: the roll back
    cleans up what that job left behind.

    Raises:
        JobConflict: the failback cannot end like that now; the text says why.
    """
    progress = next(
        one for one in gather_failback(entry.failback).machines if one.entry.pk == entry.pk
    )
    act = progress.commit if kind == COMMIT else progress.roll_back
    if not act.is_possible:
        raise JobConflict(f"{entry.machine.name}: {act.refusal}", progress.shown_job)
    if progress.job is not None and progress.job.state == JobState.NEEDS_ATTENTION:
        close_job(progress.job, requested_by)
    tries = progress.attempts
    return start_job(
        kind,
        entry.machine_id,
        entry.machine.name,
        FailbackEndParams(
            failback_id=entry.failback_id,
            entry_id=entry.pk,
            pairing_id=entry.failback.pairing_id,
        ),
        requested_by,
        # A double click or a second administrator gets the same job.
        uuid.uuid5(entry.pk, f"{kind}:{tries}"),
        entry.failback_id,
    )


def commit_due_failbacks(
    now: datetime.datetime, clock_set_at: datetime.datetime | None = None
) -> int:
    """Commit failbacks whose deadline has passed; return how many commits were started.

    clock_set_at: when the clock was last set, if it was: the days count from there at the earliest.
    """
    started = 0

    def commit(entry: FailbackMachine) -> None:
        nonlocal started
        if not _is_due(entry, now, clock_set_at) or _was_tried_lately(entry, now):
            return
        try:
            end_failback(entry, COMMIT)
        except JobConflict as conflict:
            logger.info("failback not committed entry_id=%s reason=%s", entry.pk, conflict)
            return
        started += 1

    waiting = FailbackMachine.objects.filter(
        state=FailbackState.FAILED_BACK, machine__kind=MachineKind.FAILED_BACK
    )
    entries = waiting.select_related("failback", "machine").order_by(F("failed_back_at"))
    isolate_each(entries, commit, "commit_due_failbacks")
    return started


def _is_due(
    entry: FailbackMachine, now: datetime.datetime, clock_set_at: datetime.datetime | None
) -> bool:
    if entry.failed_back_at is None or entry.commit_at is None:
        return False
    days = entry.commit_at - entry.failed_back_at
    known = [at for at in (entry.failed_back_at, clock_set_at) if at is not None and at <= now]
    return bool(known) and now - max(known) >= days


def _was_tried_lately(entry: FailbackMachine, now: datetime.datetime) -> bool:
    since = now - datetime.timedelta(seconds=_AGAIN_SECONDS)
    commits = Job.objects.in_group(entry.failback_id).filter(
        kind=COMMIT, created_at__gt=since, created_at__lte=now
    )
    return commits.filter(subject_id=entry.machine_id).exists()
