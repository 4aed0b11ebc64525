"""Start a failback, exactly once."""

import uuid

from django.db import IntegrityError, transaction
from django.utils import timezone

from console.jobs.acts import User, start_job
from replication.drafts import NO_REASON
from replication.errors import FailbackRefused
from replication.failback.check import CheckedMachine, FailbackCheck, check_failback
from replication.failback.order import FailbackOrder
from replication.failback.workflow import FailbackParams
from replication.models import Failback, FailbackMachine


def find_failback(request_id: uuid.UUID | None) -> Failback | None:
    """Return the failback that this request has already started, if any."""
    return Failback.objects.filter(request_id=request_id).first() if request_id else None


def start_failback(
    order: FailbackOrder, requested_by: User, check: FailbackCheck | None = None
) -> Failback:
    """Start one job for each machine of the order, all or none. A repeated order starts nothing.

    check: the result of checking this very order, if that has already been done.

    Raises:
        FailbackRefused: the order cannot start; the text says why.
        JobConflict: another job holds one of the machines.
    """
    known = find_failback(order.request_id)
    if known is not None:
        return known
    if not order.reason.strip():
        raise FailbackRefused(NO_REASON)
    check = check or check_failback(order, timezone.now())
    if check.refusal:
        raise FailbackRefused(check.refusal)
    try:
        with transaction.atomic():
            failback = Failback.objects.create(
                pairing=check.pairing,
                request_id=order.request_id,
                requested_by_id=requested_by.pk if requested_by is not None else None,
                reason=order.reason,
                commit_days=order.commit_days,
            )
            for machine in check.machines:
                _start_machine(failback, machine, requested_by)
    except IntegrityError:
        known = find_failback(order.request_id)
        if known is None:
            raise
        return known
    return failback


def _start_machine(failback: Failback, checked: CheckedMachine, requested_by: User) -> None:
    assert checked.order.rescue is not None
    assert checked.rescue is not None
    machine = checked.replicated.machine
    entry = FailbackMachine.objects.create(
        failback=failback,
        machine=machine,
        rescue_id=uuid.UUID(checked.rescue.rescue_id),
        rescue_host=checked.order.rescue.host,
        rescue_port=checked.order.rescue.port,
        quote=checked.quote.as_json() if checked.quote is not None else {},
    )
    start_job(
        "failback",
        machine.pk,
        machine.name,
        FailbackParams(
            failback_id=failback.pk,
            entry_id=entry.pk,
            pairing_id=failback.pairing_id,
            target_id=entry.rescue_id,
        ),
        requested_by,
        uuid.uuid5(failback.request_id, str(machine.pk)),
        failback.pk,
        reason=failback.reason,
    )
