"""Refusals that no page foresees: rows that are gone, a peer's store that is full."""

import json
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.test import Client
from pytest_django import Settings

from console.jobs.workflow import StepFailed
from recovery_store.store import Store
from replication.failback.source_jobs import get_pairing
from replication.transfer.sending import get_replicated
from tests.protected_machines.archives.archived import forget, make_archived
from tests.replication.rows import PEER_SECRET, make_pairing, make_replica, make_replicated


@pytest.mark.django_db
def test_a_job_whose_machine_is_no_longer_replicated_ends() -> None:
    with pytest.raises(StepFailed, match="no longer replicated") as failed:
        get_replicated(uuid.uuid4())
    assert (failed.value.code, failed.value.is_permanent) == ("REPLICATION-MACHINE-MISSING", True)


@pytest.mark.django_db
def test_a_failback_whose_pairing_is_gone_ends() -> None:
    context = SimpleNamespace(params=SimpleNamespace(pairing_id=uuid.uuid4()))
    with pytest.raises(StepFailed) as failed:
        get_pairing(context)
    assert failed.value.code == "FAILBACK-PAIRING-MISSING"


def test_a_store_that_is_full_is_told_to_the_source_core(
    db: None, settings: Settings, store: Store, tmp_path: Path
) -> None:
    settings.ROOT_URLCONF = "replication.api.urls"
    settings.MIDDLEWARE = []
    settings.APPEND_SLASH = False
    pairing = make_pairing(direction="incoming", peer_name="Headquarters")
    archived = make_archived(tmp_path)
    manifest = store.points(str(archived.machine.pk))[0].to_bytes()
    forget(archived.machine.pk)
    machine = make_replica(pairing, id=archived.machine.pk)
    make_replicated(pairing, machine)
    settings.UNDERSTUDY_STORE_RESERVE_BYTES = 1 << 60
    answer = Client().post(
        f"/api/v1/machines/{machine.pk}/replicas",
        manifest,
        content_type="application/json",
        headers={"Authorization": f"Understudy {pairing.pk}:{PEER_SECRET}"},
    )
    assert answer.status_code == 507
    assert json.loads(answer.content)["code"] == "REPLICATION-PEER-STORE-FULL"
