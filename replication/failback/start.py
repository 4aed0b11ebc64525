"""Start a failback."""

import uuid

from django.db import IntegrityError, transaction

from console.jobs.acts import User, start_job
from replication.errors import (
    FailbackRefused,
)
from replication.failback.draft import DraftMachine, FailbackDraft
from replication.failback.workflow import FailbackParams
from replication.models import Failback, FailbackMachine


def find_failback(request_id: uuid.UUID | None) -> Failback | None:
    """Return the failback that this request started already, if it did."""
    return Failback.objects.filter(request_id=request_id).first() if request_id else None


def start_failback(draft: FailbackDraft, requested_by: User) -> Failback:
    """Start one job for each chosen machine, all or none. A repeated request starts nothing.

    Raises:
        FailbackRefused: the draft is not fit to be started.
        JobConflict: another job holds one of the machines.
    """
    if not draft.is_valid():
        raise FailbackRefused(draft.refusal or "Something in the form is not right.")
    values = draft.form.cleaned_data
    try:
        with transaction.atomic():
            failback = Failback.objects.create(
                pairing=draft.pairing,
                request_id=values["request_id"],
                requested_by_id=requested_by.pk if requested_by is not None else None,
                reason=values["reason"],
                commit_days=values["commit_days"],
            )
            for machine in draft.chosen:
                _start_machine(failback, machine, requested_by)
    except IntegrityError:
        known = find_failback(values["request_id"])
        if known is None:
            raise
        return known
    return failback


def _start_machine(failback: Failback, machine: DraftMachine, requested_by: User) -> None:
    assert machine.target is not None
    chosen = machine.form.cleaned_data
    row = machine.replicated.machine
    entry = FailbackMachine.objects.create(
        failback=failback,
        machine=row,
        target_id=uuid.UUID(machine.target.target_id),
        target_host=chosen["host"],
        target_port=chosen["port"],
        quote=machine.quote.as_json() if machine.quote is not None else {},
    )
    start_job(
        "failback",
        row.pk,
        row.name,
        FailbackParams(
            failback_id=failback.pk,
            entry_id=entry.pk,
            pairing_id=failback.pairing_id,
            target_id=entry.target_id,
        ),
        requested_by,
        uuid.uuid5(failback.request_id, str(row.pk)),
        failback.pk,
    )
