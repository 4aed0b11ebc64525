"""What a paired core changes here is in the audit log as its act."""

import uuid

import pytest

from console.audit.log import chain_pending
from console.audit.models import Entry
from protected_machines.models import Machine
from tests.replication.calls import MACHINE, call
from tests.replication.rows import make_pairing

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_interface")]


def test_machine_that_a_core_introduces_is_recorded_once() -> None:
    pairing = make_pairing(direction="incoming", peer_name="Headquarters")
    machine_id = uuid.uuid4()

    for _ in range(2):
        answer = call("PUT", f"/machines/{machine_id}", pairing, MACHINE)
        assert answer.status_code == 200, answer.content
    chain_pending()

    (entry,) = Entry.objects.all()
    assert (entry.actor_kind, entry.actor_name) == ("core", "Headquarters")
    assert (entry.actor_id, entry.address) == (str(pairing.peer_core_id), "127.0.0.1")
    assert (entry.act, entry.object_id) == ("core-interface:machine", str(machine_id))
    assert entry.object_name == Machine.objects.get().name
