"""Periodic tasks. Each calls a plain function that may run at any time, twice, or late."""

# Celery ships no types.
# mypy: disable-error-code="untyped-decorator"

from celery import shared_task
from django.utils import timezone

from console.steady import look_at_clock
from replication import heartbeat
from replication.failback import end
from replication.status import history
from replication.transfer import start


@shared_task(name="replication.start_due_replications", soft_time_limit=120, time_limit=150)
def start_due_replications() -> None:
    start.start_due_replications()


@shared_task(name="replication.refresh_cores", soft_time_limit=60, time_limit=90)
def refresh_cores() -> None:
    heartbeat.refresh_cores()


@shared_task(name="replication.commit_due_failbacks", soft_time_limit=60, time_limit=90)
def commit_due_failbacks() -> None:
    clock = look_at_clock()
    if clock.is_steady:
        end.commit_due_failbacks(timezone.now(), clock.set_at)


@shared_task(name="replication.record_status", soft_time_limit=240, time_limit=270)
def record_status() -> None:
    history.record_day(timezone.now())
    if look_at_clock().is_steady:
        history.forget_old_days(timezone.now())
