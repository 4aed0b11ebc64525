"""Periodic wake-ups. Each calls a plain function that may run at any time, twice, or late."""

from celery import shared_task

from protected_machines import schedule
from protected_machines.index import reindex_store as compare_store_and_index
from protected_machines.store import open_store


@shared_task(name="protected_machines.start_due_snapshots", soft_time_limit=120, time_limit=150)
def start_due_snapshots() -> None:
    schedule.start_due_snapshots()


@shared_task(name="protected_machines.refresh_connections", soft_time_limit=240, time_limit=270)
def refresh_connections() -> None:
    schedule.refresh_connections()


@shared_task(name="protected_machines.prove_points", soft_time_limit=3300, time_limit=3400)
def prove_points() -> None:
    schedule.prove_points()


@shared_task(name="protected_machines.reindex_store", soft_time_limit=600, time_limit=660)
def reindex_store() -> None:
    compare_store_and_index(open_store())
