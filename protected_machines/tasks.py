"""Periodic wake-ups. Each calls a plain function that may run at any time, twice, or late.

Running twice does no harm, but a proof reads whole disks, and two of them would keep all workers
of the queue from taking snapshots.
"""

# Celery ships no types.
# mypy: disable-error-code="untyped-decorator"

from celery import shared_task

from console.steady import look_at_clock
from protected_machines.agents import connection
from protected_machines.exports import strays
from protected_machines.locks import alone
from protected_machines.points import schedule
from protected_machines.points.index import reindex_store as compare_store_and_index
from protected_machines.points.store import open_store


@shared_task(
    name="protected_machines.start_due_snapshots",
    ignore_result=True,
    soft_time_limit=120,
    time_limit=150,
)
def start_due_snapshots() -> None:
    schedule.start_due_snapshots()


@shared_task(
    name="protected_machines.refresh_connections",
    ignore_result=True,
    soft_time_limit=240,
    time_limit=270,
)
def refresh_connections() -> None:
    with alone("refresh-connections") as keep_alive:
        if keep_alive is not None:
            connection.refresh_connections()


@shared_task(
    name="protected_machines.prove_points",
    ignore_result=True,
    soft_time_limit=24 * 3600,
    time_limit=24 * 3600 + 60,
)
def prove_points() -> None:
    with alone("prove-points") as keep_alive:
        if keep_alive is not None:
            schedule.prove_points(keep_alive=keep_alive)


@shared_task(
    name="protected_machines.find_stray_vms",
    ignore_result=True,
    soft_time_limit=240,
    time_limit=270,
)
def find_stray_vms() -> None:
    with alone("find-stray-vms") as keep_alive:
        if keep_alive is not None:
            strays.find_stray_vms()


@shared_task(
    name="protected_machines.expire_unfinished",
    ignore_result=True,
    soft_time_limit=600,
    time_limit=660,
)
def expire_unfinished() -> None:
    if look_at_clock().is_steady:
        schedule.expire_unfinished()


@shared_task(
    name="protected_machines.reindex_store",
    ignore_result=True,
    soft_time_limit=600,
    time_limit=660,
)
def reindex_store() -> None:
    with alone("reindex-store") as keep_alive:
        if keep_alive is not None:
            compare_store_and_index(open_store())
