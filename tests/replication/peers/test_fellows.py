"""Two target cores of one source core know of each other, also when the source core is lost."""

import uuid
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from django.test import Client
from django.urls import reverse
from msgspec import UNSET

from console.identity import this_core
from console.jobs.workflow import StepFailed
from protected_machines.models import Machine, VCenter
from replication import heartbeat
from replication.errors import PeerRefusedSecret
from replication.failover.workflow import take_ownership
from replication.models import FellowCore, Pairing, ReplicatedMachine
from replication.peers import wire
from replication.peers.claims import hear_fellow
from replication.peers.client import PeerClient
from replication.peers.connection import speaking_with
from replication.peers.credentials import digest_of, show_fellow, unseal
from replication.peers.fellows import fellows_of, record_fellows, refresh_fellows
from replication.transfer import receiving
from tests.factories import make_machine
from tests.places.peer_core import PeerCore
from tests.places.ports import free_port
from tests.reading import as_read
from tests.replication.rows import make_pairing, make_replica, make_replicated

pytestmark = pytest.mark.django_db


def introduced(**changes: Any) -> wire.Fellow:
    values: dict[str, Any] = {
        "core_id": uuid.uuid4(),
        "name": "DR site 2",
        "host": "127.0.0.1",
        "port": free_port(),
        "certificate_pem": this_core().certificate_pem,
        "secret": "what this core presents",
        "secret_digest": digest_of("what the fellow presents"),
    }
    return wire.Fellow(**{**values, **changes})


@pytest.fixture
def incoming(db: None) -> Pairing:
    return make_pairing(direction="incoming", peer_name="Headquarters")


def test_a_source_core_introduces_the_targets_of_a_machine_to_each_other() -> None:
    first, second = make_pairing(peer_name="DR site"), make_pairing(peer_name="DR site 2")
    apart = make_pairing(peer_name="Cloud")
    machine = make_machine()
    for pairing in (first, second):
        make_replicated(pairing, machine)
    make_replicated(apart)
    (to_first,), (to_second,) = fellows_of(first), fellows_of(second)
    assert (to_first.name, to_second.name) == ("DR site 2", "DR site")
    assert to_first.core_id == second.peer_core_id
    # What one presents, the other knows the digest of; and each presents another secret.
    assert to_first.secret_digest == digest_of(to_second.secret)
    assert to_second.secret_digest == digest_of(to_first.secret)
    assert to_first.secret != to_second.secret
    assert fellows_of(apart) == ()
    assert heartbeat.status_of(first).fellows == (to_first,)
    assert fellows_of(first) == (to_first,)


def test_only_a_source_core_introduces_anybody(incoming: Pairing) -> None:
    assert heartbeat.status_of(incoming).fellows is UNSET
    outgoing = make_pairing(peer_core_id=uuid.uuid4())
    sent = wire.PeerStatus(core_id=uuid.uuid4(), name="DR site", fellows=(introduced(),))
    heartbeat.record_peer_status(outgoing, sent)
    assert not FellowCore.objects.exists()


def test_a_target_core_remembers_whom_its_source_names(
    incoming: Pairing, django_assert_num_queries: Any
) -> None:
    told = introduced()
    itself = introduced(core_id=uuid.UUID(this_core().id))
    record_fellows(incoming, [told, itself])
    row = incoming.fellows.get()
    assert (row.core_id, row.name, row.port) == (told.core_id, "DR site 2", told.port)
    assert unseal(row.sealed_secret) == told.secret
    assert told.secret not in row.sealed_secret

    # A savepoint, the rows, and nothing written.
    with django_assert_num_queries(3):
        record_fellows(incoming, [told, itself])

    moved = introduced(core_id=told.core_id, host="10.0.0.9", secret="another")
    record_fellows(incoming, [moved])
    row = incoming.fellows.get()
    assert (row.host, unseal(row.sealed_secret)) == ("10.0.0.9", "another")
    record_fellows(incoming, [])
    assert not incoming.fellows.exists()


def test_a_fellow_is_told_what_has_moved_of_what_both_hold(
    peer: PeerCore, outgoing: Pairing
) -> None:
    """This core is the source of both: the peer runs, and this test asks as the other target."""
    other = make_pairing(peer_name="DR site 2")
    shared, unshared, not_taken = (make_machine(name=name) for name in ("db-01", "db-02", "web-01"))
    for machine in (shared, unshared, not_taken):
        make_replicated(outgoing, machine)
    for machine in (shared, not_taken):
        make_replicated(other, machine)
    assert heartbeat.refresh_core(outgoing)
    with speaking_with(outgoing) as client:
        for row in outgoing.machines.all():
            client.put_machine(row.machine_id, wire.SentMachine.of(row))
    peer.rows(
        "UPDATE protected_machines_machine SET owner_core_id = ?, owner_core_name = 'DR site',"
        " ownership_epoch = 2 WHERE id IN (?, ?)",
        *(peer.core_id, shared.pk, unshared.pk),
    )
    (introduction,) = fellows_of(other)
    assert introduction.core_id == peer.core_id
    with asking(introduction) as client:
        (moved,) = client.machines_moved().ownership
        assert (moved.machine_id, moved.owner_core_id) == (shared.pk, peer.core_id)
        assert (moved.ownership_epoch, moved.machine_name) == (2, "")
        with pytest.raises(PeerRefusedSecret):
            client.ownership(shared.pk)
    with (
        asking(introduction, secret="guessed") as client,
        pytest.raises(PeerRefusedSecret, match="not introduced"),
    ):
        client.machines_moved()


def asking(fellow: wire.Fellow, secret: str = "") -> PeerClient:
    return PeerClient(
        fellow.host,
        fellow.port,
        fellow.certificate_pem,
        authorization=show_fellow(secret or fellow.secret),
    )


def test_a_silent_fellow_is_named_in_the_dialog_and_does_not_block(
    signed_in: Client, replica: ReplicatedMachine, vcenter: VCenter
) -> None:
    told = introduced()
    record_fellows(replica.pairing, [told])
    address = reverse("replication:pairing-fail-over", args=[replica.pairing.pk])
    assert "FAILOVER-FELLOW-SILENT" not in as_read(signed_in.get(address)), (
        "it has not this machine"
    )
    ReplicatedMachine.objects.update(fellow_core_ids=[str(told.core_id)])
    page = as_read(signed_in.get(address))
    assert "to DR site 2 too, which did not say whether it has failed the machine over" in page
    assert 'aria-disabled="true"' not in page
    details = as_read(signed_in.get(reverse("replication:pairing", args=[replica.pairing.pk])))
    assert "Also replicates to" in details
    assert "DR site 2 (127.0.0.1:" in details


def test_a_fellow_is_not_asked_twice_within_seconds(incoming: Pairing) -> None:
    record_fellows(incoming, [introduced()])
    refresh_fellows(incoming)
    asked = incoming.fellows.get()
    refresh_fellows(incoming)
    assert incoming.fellows.get().asked_at == asked.asked_at is not None
    assert "is not responding" in asked.silence_text


def test_a_source_core_says_where_else_a_machine_goes(incoming: Pairing) -> None:
    first, second = make_pairing(peer_name="DR site"), make_pairing(peer_name="DR site 2")
    machine = make_machine()
    row = make_replicated(first, machine)
    assert wire.SentMachine.of(row).fellow_core_ids == ()
    make_replicated(second, machine)
    sent = wire.SentMachine.of(row)
    assert sent.fellow_core_ids == (second.peer_core_id,)
    # What arrives at a target core of that name.
    here = [second.peer_core_id, uuid.UUID(this_core().id)]
    told = msgspec.structs.replace(sent, fellow_core_ids=tuple(here), delegation_pem="")
    receiving.accept_machine(incoming, uuid.uuid4(), told)
    assert incoming.machines.get().fellow_core_ids == [str(second.peer_core_id)]


@dataclass
class Fellows:
    """A replica here, and a fellow that may say who owns it."""

    machine: Machine
    fellow: FellowCore

    def says(self, owner: uuid.UUID, name: str, epoch: int) -> tuple[str, int, bool]:
        """Return the owner, the epoch, and whether they are disputed, after it said so."""
        told = wire.Ownership(
            machine_id=self.machine.pk,
            owner_core_id=owner,
            owner_core_name=name,
            ownership_epoch=epoch,
        )
        hear_fellow(self.fellow, [told])
        self.machine.refresh_from_db()
        return self.machine.owner_core_name, self.machine.ownership_epoch, self.machine.is_disputed


@pytest.fixture
def fellows(incoming: Pairing) -> Fellows:
    told = introduced()
    record_fellows(incoming, [told])
    machine = make_replica(incoming)
    make_replicated(incoming, machine, fellow_core_ids=[str(told.core_id)])
    return Fellows(machine, incoming.fellows.get())


def test_what_a_fellow_took_is_its_own_until_it_gives_it_back(
    fellows: Fellows, incoming: Pairing
) -> None:
    took = (fellows.fellow.core_id, "DR site 2")
    assert fellows.says(*took, 2) == ("DR site 2", 2, False)
    assert fellows.says(*took, 2) == ("DR site 2", 2, False)
    gave = (incoming.peer_core_id, "Headquarters")
    assert fellows.says(*gave, 3) == ("Headquarters", 3, False)


def test_what_a_fellow_took_cannot_be_failed_over_here(fellows: Fellows, incoming: Pairing) -> None:
    fellows.says(fellows.fellow.core_id, "DR site 2", 2)
    context = make_context(fellows.machine, incoming)
    with pytest.raises(StepFailed) as failed:
        take_ownership.action(context)
    assert failed.value.code == "FAILOVER-NOT-REPLICATED"
    fellows.machine.refresh_from_db()
    assert (fellows.machine.owner_core_name, fellows.machine.ownership_epoch) == ("DR site 2", 2)


def make_context(machine: Machine, pairing: Pairing) -> Any:
    params = SimpleNamespace(pairing_id=pairing.pk)
    return SimpleNamespace(subject_id=machine.pk, params=params)


def test_a_machine_that_both_took_is_disputed(fellows: Fellows) -> None:
    core = this_core()
    Machine.objects.update(owner_core_id=core.id, owner_core_name=core.name, ownership_epoch=2)
    assert fellows.says(fellows.fellow.core_id, "DR site 2", 2) == (core.name, 2, True)


def test_a_fellow_that_does_not_hold_the_machine_takes_nothing(fellows: Fellows) -> None:
    ReplicatedMachine.objects.update(fellow_core_ids=[])
    assert fellows.says(fellows.fellow.core_id, "DR site 2", 2) == ("Headquarters", 1, True)


def test_what_a_fellow_says_of_others_is_hearsay(fellows: Fellows, incoming: Pairing) -> None:
    assert fellows.says(uuid.uuid4(), "Elsewhere", 5) == ("Headquarters", 1, False)
    assert fellows.says(incoming.peer_core_id, "Headquarters", 5) == ("Headquarters", 1, False)
    # Also when it owns the machine: it may give it back, and to nobody else.
    fellows.says(fellows.fellow.core_id, "DR site 2", 2)
    assert fellows.says(uuid.uuid4(), "Elsewhere", 3) == ("DR site 2", 2, True)
