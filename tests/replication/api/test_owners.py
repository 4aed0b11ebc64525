"""Over the core interface, a machine changes hands only by an act that its owner allowed."""

import uuid
from typing import Any

import pytest

from console.identity import this_core
from protected_machines.choices import MachineKind
from protected_machines.models import Machine
from protected_machines.ownership import NO_CLAIM, Trouble, ownership_trouble
from replication.models import Pairing
from tests.factories import make_machine, make_recovery_point
from tests.replication.calls import MACHINE, call
from tests.replication.rows import make_pairing, make_replica, make_replicated

pytestmark = pytest.mark.usefixtures("core_interface")


@pytest.fixture
def pairing(db: None) -> Pairing:
    return make_pairing(direction="incoming", peer_name="Headquarters")


def test_a_higher_epoch_of_the_owner_is_newer_knowledge(pairing: Pairing) -> None:
    machine = make_replicated(pairing).machine
    answer = call("PUT", f"/machines/{machine.pk}", pairing, {**MACHINE, "ownership_epoch": 3})
    assert answer.status_code == 200
    machine.refresh_from_db()
    assert (machine.owner_core_id, machine.ownership_epoch) == (pairing.peer_core_id, 3)


# What a failover of the machine needs later, and nobody but its owner may change.
NEEDED = (
    "name",
    "host",
    "port",
    "kind",
    "agent_certificate_pem",
    "description",
    "snapshot_interval_seconds",
    "owner_core_id",
    "owner_core_name",
    "ownership_epoch",
    "source_core_id",
)


def needed_of(machine: Machine) -> dict[str, Any]:
    return Machine.objects.values(*NEEDED).get(pk=machine.pk)


@pytest.mark.parametrize("whose", ["another source's", "protected here", "failed over"])
def test_a_source_does_not_take_what_it_does_not_own(pairing: Pairing, whose: str) -> None:
    if whose == "another source's":
        machine = make_replicated(make_pairing(direction="incoming")).machine
    elif whose == "protected here":
        machine = make_machine(ownership_epoch=1)
    else:
        machine = make_replica(pairing, owner_core_id=uuid.UUID(this_core().id), ownership_epoch=2)
        Machine.objects.update(kind=MachineKind.FAILED_OVER)
        # A paused pairing speaks no differently.
        make_replicated(pairing, machine).pairing.set_paused(True)
    before = needed_of(machine)
    answer = call("PUT", f"/machines/{machine.pk}", pairing, {**MACHINE, "ownership_epoch": 3})
    assert answer.json()["code"] == "REPLICATION-OWNED-ELSEWHERE"
    assert needed_of(machine) == before
    machine.refresh_from_db()
    assert (machine.claim_core_id, machine.claim_epoch) == (pairing.peer_core_id, 3)
    assert machine.replications.filter(pairing=pairing).exists() == (whose == "failed over")
    # Its points are not taken either, nor by the status is it taken.
    told = [{**OWNED, "machine_id": str(machine.pk), "owner_core_id": str(pairing.peer_core_id)}]
    status = {"core_id": str(pairing.peer_core_id), "name": "HQ", "ownership": told}
    assert call("POST", "/status", pairing, status).status_code == 200
    assert needed_of(machine) == before
    path = f"/machines/{machine.pk}/missing-points"
    assert call("POST", path, pairing, {"point_ids": []}).status_code >= 400


OWNED = {"owner_core_name": "HQ", "ownership_epoch": 9, "owned_since": "2026-03-01T12:00:00Z"}


def test_a_status_that_names_a_third_core_moves_nothing(pairing: Pairing) -> None:
    machine = make_replicated(pairing).machine
    told = [{**OWNED, "machine_id": str(machine.pk), "owner_core_id": str(uuid.uuid4())}]
    status = {"core_id": str(pairing.peer_core_id), "name": "HQ", "ownership": told}
    assert call("POST", "/status", pairing, status).status_code == 200
    machine.refresh_from_db()
    assert machine.owner_core_id == pairing.peer_core_id
    assert machine.is_disputed
    # The owner states that it is still the owner, with a higher epoch than the other would have.
    answer = call("PUT", f"/machines/{machine.pk}", pairing, {**MACHINE, "ownership_epoch": 10})
    assert answer.status_code == 200
    machine.refresh_from_db()
    assert (machine.ownership_epoch, machine.is_disputed) == (10, False)


def test_an_epoch_that_leaps_is_not_believed_even_of_the_owner(pairing: Pairing) -> None:
    machine = make_replicated(pairing).machine
    before = needed_of(machine)
    answer = call("PUT", f"/machines/{machine.pk}", pairing, {**MACHINE, "ownership_epoch": 2000})
    assert (answer.status_code, answer.json()["code"]) == (400, "REPLICATION-PEER-FAULTY")
    assert needed_of(machine) == before
    for epoch in (2**31 + 1, 2**63 - 1):
        sent = {**MACHINE, "ownership_epoch": epoch}
        assert call("PUT", f"/machines/{machine.pk}", pairing, sent).status_code == 400
    assert needed_of(machine) == before


def test_a_source_tells_a_core_restored_from_a_backup_that_it_owns_the_machine(
    pairing: Pairing,
) -> None:
    machine = make_replicated(pairing).machine
    told = [{**OWNED, "machine_id": str(machine.pk), "owner_core_id": this_core().id}]
    status = {"core_id": str(pairing.peer_core_id), "name": "HQ", "ownership": told}
    assert call("POST", "/status", pairing, status).status_code == 200
    machine.refresh_from_db()
    assert (machine.is_owned_here, machine.ownership_epoch) == (True, 9)
    assert ownership_trouble(machine) is Trouble.CONTRADICTORY


def test_a_machine_whose_points_came_on_a_disk_is_introduced_by_their_core_only(
    pairing: Pairing,
) -> None:
    machine = make_replica(pairing, kind=MachineKind.RECOVERY_POINTS_ONLY)
    other = make_pairing(direction="incoming", peer_name="Another source")
    assert call("PUT", f"/machines/{machine.pk}", other, MACHINE).status_code == 409
    Machine.objects.update(**NO_CLAIM)
    assert call("PUT", f"/machines/{machine.pk}", pairing, MACHINE).status_code == 200
    machine.refresh_from_db()
    assert machine.kind == MachineKind.REPLICATED


def test_a_target_takes_only_what_is_replicated_to_it(db: None) -> None:
    pairing = make_pairing(direction="outgoing")
    machine = make_machine()
    before = needed_of(machine)
    answer = call("PUT", f"/machines/{machine.pk}", pairing, {**MACHINE, "ownership_epoch": 2})
    assert answer.json()["code"] == "REPLICATION-OWNED-ELSEWHERE"
    assert needed_of(machine) == before
    machine.refresh_from_db()
    assert machine.is_disputed
    assert not machine.replications.exists()


def test_a_target_takes_what_is_replicated_to_it(db: None) -> None:
    pairing = make_pairing(direction="outgoing")
    machine = make_replicated(pairing).machine
    answer = call("PUT", f"/machines/{machine.pk}", pairing, {**MACHINE, "ownership_epoch": 2})
    assert answer.status_code == 200
    machine.refresh_from_db()
    assert (machine.owner_core_id, machine.is_disputed) == (pairing.peer_core_id, False)


def test_a_target_does_not_hand_over_what_it_did_not_own(db: None) -> None:
    pairing = make_pairing(direction="outgoing")
    machine = make_replicated(pairing, make_machine(agent_certificate_pem="PEM")).machine
    make_recovery_point(machine)
    before = needed_of(machine)
    sent = {"host": "10.9.9.9", "port": 8006, "description": {}, "ownership_epoch": 1}
    for epoch in (1, 2):
        path = f"/machines/{machine.pk}/take-over"
        answer = call("POST", path, pairing, {**sent, "ownership_epoch": epoch})
        assert answer.json()["code"] == "REPLICATION-OWNED-ELSEWHERE"
        assert {**needed_of(machine), "ownership_epoch": 1} == before


@pytest.mark.parametrize("direction", ["incoming", "outgoing"])
def test_a_core_that_forgot_what_it_owns_is_told_and_says_so(db: None, direction: str) -> None:
    pairing = make_pairing(direction=direction, peer_name="Elsewhere")
    machine_id = uuid.uuid4()
    told = {**OWNED, "machine_id": str(machine_id), "machine_name": "db-01"}
    status = {"core_id": str(pairing.peer_core_id), "name": "Elsewhere"}
    others = [{**told, "owner_core_id": str(pairing.peer_core_id)}]
    call("POST", "/status", pairing, {**status, "ownership": others})
    assert not Machine.objects.exists()
    mine = [{**told, "owner_core_id": this_core().id}]
    for _ in range(2):
        assert call("POST", "/status", pairing, {**status, "ownership": mine}).status_code == 200
    machine = Machine.objects.get()
    assert (machine.pk, machine.name, machine.ownership_epoch) == (machine_id, "db-01", 9)
    assert ownership_trouble(machine) is Trouble.CONTRADICTORY


def test_a_peer_is_told_who_owns_a_machine_that_it_thinks_is_shared(pairing: Pairing) -> None:
    machine, other = make_machine(ownership_epoch=12), make_machine(ownership_epoch=12)
    told = [
        {**OWNED, "machine_id": str(known), "owner_core_id": str(pairing.peer_core_id)}
        for known in (machine.pk, uuid.uuid4())
    ]
    status = {"core_id": str(pairing.peer_core_id), "name": "HQ", "ownership": told}
    (answered,) = call("POST", "/status", pairing, status).json()["ownership"]
    assert answered["machine_id"] == str(machine.pk)
    assert (answered["owner_core_id"], answered["ownership_epoch"]) == (this_core().id, 12)
    # Nothing else of it, and nothing of a machine that the peer did not name.
    assert answered["machine_name"] == ""
    assert str(other.pk) not in str(answered)
