"""Pair with a source core that was set up anew, from the target's side."""

import io

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from protected_machines.models import Machine
from replication.errors import PairingCodeRefused, PeerFaulty
from replication.models import Failover, Pairing, ReplicatedMachine
from replication.peers.client import PeerClient
from replication.peers.connection import speaking_with
from replication.peers.pairing import add_source_core, add_target_core
from replication.peers.wire import SentMachine
from tests.factories import make_machine
from tests.places.peer_core import WRONG_CODE, PeerCore
from tests.reading import as_read
from tests.replication.rows import make_pairing, make_replica, make_replicated

pytestmark = pytest.mark.django_db


@pytest.fixture
def lost(peer: PeerCore) -> Pairing:
    """The pairing with the core that was at the same address before."""
    return make_pairing(direction="incoming", peer_name="Headquarters", port=peer.port)


def failed_over_of(lost: Pairing) -> Machine:
    machine = make_machine(kind="failed_over", source_core_id=lost.peer_core_id, ownership_epoch=2)
    make_replicated(lost, machine)
    return machine


def test_it_becomes_the_source_and_this_core_its_target(peer: PeerCore) -> None:
    pairing = add_source_core("127.0.0.1", peer.port, peer.pairing_code)
    assert pairing.direction == "incoming"
    rows = peer.rows("SELECT direction, id FROM replication_pairing")
    assert rows == [("outgoing", pairing.pk.hex)]
    with speaking_with(pairing) as client:
        assert client.status().core_id == peer.core_id


def test_the_machines_that_run_here_go_over_to_it(peer: PeerCore, lost: Pairing) -> None:
    machine = failed_over_of(lost)
    failover = Failover.objects.create(pairing=lost, request_id=machine.pk)
    pairing = add_source_core("127.0.0.1", peer.port, peer.pairing_code, replaces=lost)
    machine.refresh_from_db()
    assert machine.source_core_id == peer.core_id
    assert [row.machine_id for row in pairing.machines.all()] == [machine.pk]
    failover.refresh_from_db()
    assert failover.pairing_id == pairing.pk
    assert list(Pairing.objects.all()) == [pairing]


def test_replicas_that_do_not_run_here_stay_with_the_lost_one(
    peer: PeerCore, lost: Pairing
) -> None:
    failed_over_of(lost)
    replica = make_replica(lost)
    make_replicated(lost, replica)
    pairing = add_source_core("127.0.0.1", peer.port, peer.pairing_code, replaces=lost)
    assert pairing.machines.count() == 1
    assert lost.machines.get().machine_id == replica.pk


def test_again_renews_the_same_pairing(peer: PeerCore) -> None:
    first = add_source_core("127.0.0.1", peer.port, peer.pairing_code)
    again = add_source_core("127.0.0.1", peer.port, peer.pairing_code)
    assert again.pk == first.pk
    assert Pairing.objects.count() == 1


def test_only_its_code_pairs_it(peer: PeerCore) -> None:
    with pytest.raises(PairingCodeRefused):
        add_source_core("127.0.0.1", peer.port, WRONG_CODE)
    assert not Pairing.objects.exists()


def test_a_code_that_added_it_as_a_target_does_not_also_add_it_as_a_source(peer: PeerCore) -> None:
    code = peer.pairing_code
    add_target_core("127.0.0.1", peer.port, code)
    with pytest.raises(PairingCodeRefused):
        add_source_core("127.0.0.1", peer.port, code)
    assert Pairing.objects.get().is_outgoing


def test_the_command_finds_the_lost_one_by_its_address(
    peer: PeerCore,
    lost: Pairing,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed_over_of(lost)
    words = ("--host", "127.0.0.1", "--port", str(peer.port))
    monkeypatch.setattr("sys.stdin", io.StringIO(peer.pairing_code))
    call_command("add_source_core", *words)
    assert "1 machines can fail back to it" in capsys.readouterr().out
    with pytest.raises(CommandError, match="Choose the source core with --replaces"):
        call_command("add_source_core", *words, "--replaces", "Elsewhere")


@pytest.mark.parametrize("chosen", ["the same address", "by name"])
def test_the_dialog_replaces_the_lost_core(
    signed_in: Client, peer: PeerCore, lost: Pairing, chosen: str
) -> None:
    failed_over_of(lost)
    url = reverse("replication:source-core-add")
    values = {"host": "127.0.0.1", "port": peer.port}
    opened = signed_in.get(url, values).content.decode()
    assert f'value="{peer.port}"' in opened
    assert f'<option value="{lost.pk}">' in opened
    if chosen == "by name":
        Pairing.objects.update(host="192.0.2.7")
        values["replaces"] = str(lost.pk)
    wrong = signed_in.post(url, {**values, "code": WRONG_CODE})
    assert wrong.status_code == 422
    assert "does not accept this pairing code" in as_read(wrong)
    done = signed_in.post(url, {**values, "code": peer.pairing_code})
    pairing = Pairing.objects.get()
    assert (done.status_code, done.headers["Location"]) == (
        303,
        f"/replication/pairings/{pairing.pk}/",
    )
    assert (pairing.peer_core_id, pairing.machines.count()) == (peer.core_id, 1)


def test_the_dialog_leaves_the_lost_core_alone_if_told_to(
    signed_in: Client, peer: PeerCore, lost: Pairing
) -> None:
    failed_over_of(lost)
    values = {"host": "127.0.0.1", "port": peer.port, "code": peer.pairing_code}
    signed_in.post(reverse("replication:source-core-add"), {**values, "replaces": "none"})
    assert Pairing.objects.count() == 2
    assert lost.machines.count() == 1


def test_machines_come_back_only_over_the_pairing_with_their_target(
    peer: PeerCore, outgoing: Pairing
) -> None:
    """A source core is refused when it wants of its target what only a target may want."""
    with speaking_with(outgoing) as client:
        assert isinstance(client, PeerClient)
        with pytest.raises(Exception, match="Only a target core can have machines fail back"):
            client.point_ids(make_machine().pk)


def test_a_machine_that_comes_back_without_an_address_is_refused_in_words(peer: PeerCore) -> None:
    pairing = add_source_core("127.0.0.1", peer.port, peer.pairing_code)
    machine = make_machine(host="", kind="replicated")
    sent = SentMachine.of(ReplicatedMachine(pairing=pairing, machine=machine))
    with (
        speaking_with(pairing) as client,
        pytest.raises(PeerFaulty, match="did not report the address"),
    ):
        client.put_machine(machine.pk, sent)
