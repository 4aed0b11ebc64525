"""One core that cannot be spoken with keeps out no other."""

import uuid

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from console.identity import this_core
from console.jobs.models import Job
from protected_machines.choices import ConnectionState
from protected_machines.models import Machine
from replication import heartbeat
from replication.models import Pairing
from replication.peers import wire
from replication.transfer.start import start_due_replications
from tests.replication.rows import make_pairing, make_replicated

pytestmark = pytest.mark.django_db


def test_a_pairing_that_cannot_be_read_keeps_out_no_other() -> None:
    make_pairing(peer_name="A", port=70_000)
    sound = make_pairing(peer_name="B")
    heartbeat.refresh_cores()
    sound.refresh_from_db()
    assert sound.connection_state == ConnectionState.UNREACHABLE


def told(pairing: Pairing, owner_core_id: object, epoch: int) -> wire.PeerStatus:
    """A status that names one core as the owner of every machine that there is."""
    return wire.PeerStatus(
        core_id=pairing.peer_core_id,
        name=pairing.peer_name,
        ownership=tuple(
            wire.Ownership(
                machine_id=machine_id,
                owner_core_id=uuid.UUID(str(owner_core_id)),
                owner_core_name="Owner",
                ownership_epoch=epoch,
            )
            for machine_id in Machine.objects.values_list("pk", flat=True)
        ),
    )


@pytest.mark.parametrize("says", ["agrees", "disputes"])
def test_what_is_known_already_costs_no_query_for_each_machine(says: str) -> None:
    pairing = make_pairing()
    owner = this_core().id if says == "agrees" else pairing.peer_core_id
    counts = []
    for _ in range(2):
        make_replicated(pairing)
        make_replicated(pairing)
        status = told(pairing, owner, 1)
        heartbeat.record_peer_status(pairing, status)
        with CaptureQueriesContext(connection) as queries:
            heartbeat.record_peer_status(pairing, status)
        counts.append(len(queries))
    assert Machine.objects.undisputed().exists() == (says == "agrees")
    assert counts[0] == counts[1]


def test_nothing_is_sent_of_a_disputed_machine() -> None:
    pairing = make_pairing(direction="outgoing")
    replicated = make_replicated(pairing)
    assert start_due_replications() == 1
    heartbeat.record_peer_status(pairing, told(pairing, uuid.uuid4(), 2))
    assert Machine.objects.get(pk=replicated.machine_id).is_disputed
    Job.objects.all().delete()
    assert start_due_replications() == 0
