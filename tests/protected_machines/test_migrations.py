"""What migrations do to rows that are there already."""

import uuid

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

BEFORE = [("protected_machines", "0003_machine_vm_marker"), ("jobs", "0001_jobs_steps_events")]
AFTER = [("protected_machines", "0004_markers_of_failed_over_machines")]


@pytest.mark.django_db(transaction=True)
def test_a_machine_that_failed_over_earlier_keeps_its_vms_marker() -> None:
    executor = MigrationExecutor(connection)
    latest = executor.loader.graph.leaf_nodes()
    executor.migrate(BEFORE[:1])
    apps = executor.loader.project_state(BEFORE).apps
    machine = apps.get_model("protected_machines", "Machine").objects.create(
        name="web-01", host="192.0.2.1", owner_core_id=uuid.uuid4(), vm_moid="vm-7"
    )
    job = apps.get_model("jobs", "Job").objects.create(
        kind="failover",
        plan_version=1,
        title="Fail over",
        queue="control",
        is_exclusive=True,
        subject_id=machine.pk,
        subject_name="web-01",
        params={},
        state="succeeded",
        send_count=1,
    )
    apps.get_model("jobs", "JobStep").objects.create(
        job=job, position=1, name="reserve_names", title="Name", output={"marker": "understudy-7"}
    )
    executor = MigrationExecutor(connection)
    executor.migrate(AFTER)
    after = executor.loader.project_state(AFTER).apps.get_model("protected_machines", "Machine")
    assert after.objects.get(pk=machine.pk).vm_marker == "understudy-7"
    after.objects.all().delete()
    MigrationExecutor(connection).migrate(latest)
