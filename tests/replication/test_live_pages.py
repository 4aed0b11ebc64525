"""What the pages of failovers and failbacks share: they poll, and are told what looks different."""

import uuid
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from console.jobs import engine
from console.jobs.testing import JumpingClock
from protected_machines.choices import MachineKind
from replication.models import Failback, FailbackMachine, Failover, FailoverMachine, Pairing
from tests.clocks import Clock
from tests.console.jobs.demo import start_demo
from tests.factories import GIB, NOON
from tests.replication.rows import make_replica

HTMX = {"HX-Request": "true"}


def make_group(name: str, pairing: Pairing, folder: Path) -> str:
    """Return the page of a failover or failback whose only job waits."""
    machine = make_replica(pairing, name="db-01", kind=MachineKind.PENDING_FAILOVER)
    group: Any
    if name == "failover":
        group = Failover.objects.create(pairing=pairing, request_id=uuid.uuid4())
        FailoverMachine.objects.create(
            failover=group,
            machine=machine,
            point_id=uuid.uuid4(),
            point_taken_at=NOON,
            chosen={"vm_name": "db-01", "cpus": 2, "memory_bytes": GIB},
        )
    else:
        group = Failback.objects.create(pairing=pairing, request_id=uuid.uuid4())
        FailbackMachine.objects.create(
            failback=group, machine=machine, rescue_id=uuid.uuid4(), rescue_host="10.0.0.9"
        )
    job = start_demo(folder, waits=1000, subject_id=machine.pk, group_id=group.pk)
    engine.run_job(job.id, clock=JumpingClock(), send=lambda job, delay_seconds: True)
    return reverse(f"replication:{name}", args=[group.pk])


@pytest.mark.parametrize("name", ["failover", "failback"])
def test_the_time_of_a_step_that_waits_goes_on(
    name: str, signed_in: Client, incoming: Pairing, tmp_path: Path, clock: Clock
) -> None:
    url = make_group(name, incoming, tmp_path)
    clock.pass_time(2 * 3600)
    response = signed_in.get(url, headers=HTMX)
    seen = {"seen": response.context["progress"].revision}
    assert signed_in.get(url, seen, headers=HTMX).status_code == 204
    clock.pass_time(600)
    assert "2 h 10 min" in signed_in.get(url, seen, headers=HTMX).content.decode()
