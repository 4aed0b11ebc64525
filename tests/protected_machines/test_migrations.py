"""What migrations do to rows that are there already."""

import uuid

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

BEFORE = [("protected_machines", "0003_machine_vm_marker"), ("jobs", "0003_reason")]
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


@pytest.mark.django_db(transaction=True)
def test_points_proven_before_grains_were_inflated_are_proven_again() -> None:
    executor = MigrationExecutor(connection)
    latest = executor.loader.graph.leaf_nodes()
    before = [("protected_machines", "0006_delegations")]
    executor.migrate(before)
    apps = executor.loader.project_state(before).apps
    machine = apps.get_model("protected_machines", "Machine").objects.create(
        name="web-01", host="192.0.2.1", owner_core_id=uuid.uuid4()
    )
    for state in ("proven", "damaged"):
        apps.get_model("protected_machines", "RecoveryPoint").objects.create(
            id=uuid.uuid4(),
            machine=machine,
            taken_at=timezone.now(),
            kind="base_image",
            ownership_epoch=1,
            taken_by_core_id=uuid.uuid4(),
            stored_bytes=1,
            state=state,
            proven_at=timezone.now(),
            damage_text="cut" if state == "damaged" else "",
        )
    after = [("protected_machines", "0007_points_proven_again")]
    executor = MigrationExecutor(connection)
    executor.migrate(after)
    point = executor.loader.project_state(after).apps.get_model(
        "protected_machines", "RecoveryPoint"
    )
    facts = point.objects.order_by("state").values_list("state", "proven_at")
    assert list(facts) == [("damaged", None), ("unproven", None)]
    point.objects.all().delete()
    MigrationExecutor(connection).migrate(latest)
