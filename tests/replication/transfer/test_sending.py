"""Points go over a link that is cut, and past storage that damages them."""

import uuid
from collections.abc import Callable, Iterator

import pytest

from console.jobs.choices import EventType, JobState
from console.jobs.testing import log_of, run_until_done
from protected_machines.models import Machine, RecoveryPoint
from recovery_store.store import Store
from replication.errors import DamagedOnArrival, PeerUnreachable
from replication.models import Pairing, ReplicatedMachine
from replication.peers.connection import speaking_with
from replication.peers.wire import SentMachine
from replication.transfer.sending import Sending
from replication.transfer.start import start_replication
from tests.places.link import Link
from tests.places.peer_core import PeerCore
from tests.reports import Told

SLICE_BYTES = 64 * 1024


@pytest.fixture
def link(outgoing: Pairing, peer: PeerCore) -> Iterator[Link]:
    """The way to the peer, which can be cut."""
    link = Link(peer.port)
    outgoing.port = link.port
    outgoing.save(update_fields=["port"])
    yield link
    link.close()


@pytest.fixture
def replicated(
    link: Link, outgoing: Pairing, machine: Machine, take_point: Callable[[], RecoveryPoint]
) -> ReplicatedMachine:
    take_point()
    row = ReplicatedMachine.objects.create(pairing=outgoing, machine=machine)
    return ReplicatedMachine.objects.select_related("machine", "pairing").get(pk=row.pk)


def send(replicated: ReplicatedMachine, on_progress: Callable[[int], None] = id) -> dict[str, int]:
    """Introduce the machine and send what is missing, in small slices."""

    def progress(done_bytes: int, total_bytes: int) -> None:
        assert done_bytes <= total_bytes
        on_progress(done_bytes)

    with speaking_with(replicated.pairing) as client:
        client.put_machine(replicated.machine_id, SentMachine.of(replicated))
        return Sending(replicated, client, Told(progress), SLICE_BYTES).send_missing()


def file_bytes(store: Store, machine: Machine) -> int:
    return sum(disk.file_bytes for point in store.points(str(machine.pk)) for disk in point.disks)


def test_a_cut_link_goes_on_where_it_stopped(
    replicated: ReplicatedMachine, link: Link, store: Store, peer: PeerCore
) -> None:
    total_bytes = file_bytes(store, replicated.machine)
    link.cut_after_bytes = total_bytes // 2
    with pytest.raises(PeerUnreachable):
        send(replicated)
    assert link.cuts == 1
    assert replicated.pairing.connection_state == "unreachable"
    send(replicated)
    assert replicated.pairing.connection_state == "online"
    machine_id = str(replicated.machine_id)
    assert [p.point_id for p in peer.store.points(machine_id)] == [
        p.point_id for p in store.points(machine_id)
    ]
    # A cut costs at most the slice that was under way; the rest is the two handshakes.
    assert link.sent_bytes <= total_bytes * 1.02 + SLICE_BYTES + 40_000


def test_a_job_waits_while_the_link_is_down_and_goes_on(
    replicated: ReplicatedMachine, link: Link, store: Store
) -> None:
    link.cut_after_bytes = file_bytes(store, replicated.machine) // 2
    job = run_until_done(start_replication(replicated), limit_seconds=60)
    assert job.state == JobState.SUCCEEDED, log_of(job)
    assert link.cuts == 1
    waits = job.events.filter(step="send_points", type=EventType.WAITING)
    assert "resumes where it stopped" in waits.get().payload["text"]


def test_the_bytes_on_the_wire_are_those_of_the_files(
    replicated: ReplicatedMachine, link: Link, store: Store
) -> None:
    run_until_done(start_replication(replicated), limit_seconds=60)
    total_bytes = file_bytes(store, replicated.machine)
    # Small points here: the handshakes and the manifest weigh more than they do in real ones.
    assert link.sent_bytes <= total_bytes * 1.02 + 30_000


def test_what_the_target_damages_once_is_sent_again(
    replicated: ReplicatedMachine, store: Store, peer: PeerCore
) -> None:
    damages = _Damages(peer, times=1)
    send(replicated, damages)
    assert damages.done == 1
    (manifest,) = peer.store.points(str(replicated.machine_id))
    peer.store.prove(manifest.machine_id, manifest.point_id)


def test_what_the_target_damages_again_and_again_ends_in_a_clear_error(
    replicated: ReplicatedMachine, peer: PeerCore
) -> None:
    damages = _Damages(peer, times=1000)
    with pytest.raises(DamagedOnArrival, match=r"disk\d\.vmdk.* It was sent 2 times"):
        send(replicated, damages)
    assert peer.store.points(str(replicated.machine_id)) == []


def test_a_point_that_comes_while_sending_goes_along(
    replicated: ReplicatedMachine, peer: PeerCore, take_point: Callable[[], RecoveryPoint]
) -> None:
    taken: list[uuid.UUID] = []

    def take_once(done_bytes: int) -> None:
        if done_bytes and not taken:
            taken.append(take_point().pk)

    assert send(replicated, take_once)["sent_points"] == 2
    assert str(taken[0]) in [p.point_id for p in peer.store.points(str(replicated.machine_id))]


class _Damages:
    """Flips a byte of what has arrived at the peer, as failing storage would."""

    def __init__(self, peer: PeerCore, times: int) -> None:
        self._root = peer.home / "store"
        self._times = times
        self.done = 0

    def __call__(self, done_bytes: int) -> None:
        if self.done == self._times or not done_bytes:
            return
        arriving = [path for path in self._root.rglob("disk*.vmdk") if path.stat().st_size > 8192]
        if not arriving:
            return
        with arriving[0].open("r+b") as file:
            file.seek(4096)
            byte = file.read(1)
            file.seek(4096)
            file.write(bytes([byte[0] ^ 1]))
        self.done += 1
