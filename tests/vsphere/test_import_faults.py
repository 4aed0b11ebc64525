"""Imports that fail: a clear error, and nothing left behind."""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lab.vcsim.process import Vcsim
from tests.places.vcsim import credentials_of
from tests.vsphere.disks import MIB, disk_of, in_chunks, make_stream, upload_of
from tests.vsphere.site import MARKER, STREAM, World
from vsphere import DiskUpload, VmNic, connect
from vsphere.errors import (
    CertificateChanged,
    DatastoreFull,
    DatastoreUnusable,
    DigestDiffers,
    DisksUnmatched,
    LeaseLost,
    NameTaken,
    PlacementMissing,
    SessionLost,
    SpecRefused,
    StreamLengthWrong,
    UploadCut,
    UploadRefused,
    VSphereError,
)
from vsphere.upload import OwnLine


class Cancelled(Exception):
    """What a job raises when someone has pressed Cancel."""


@pytest.fixture
def untouched(world: World) -> Iterator[World]:
    """The world must be after the test as it was before."""
    before = world.free_bytes()
    yield world
    world.vcsim.no_faults()
    assert world.machine_names() == []
    assert world.uploaded() == []
    assert world.free_bytes() == before


class HalfwayDisk:
    """A disk while whose reading something happens; what is left is read slowly, if told so."""

    def __init__(self, then: Callable[[], Any], piece_seconds: float = 0) -> None:
        self.then = then
        self.piece_seconds = piece_seconds
        self.pieces = list(in_chunks(STREAM, 1 << 16))
        self.read_pieces = 0

    def upload(self, number: int) -> DiskUpload:
        """Return it as a disk to send."""
        return DiskUpload(number, len(STREAM), self._read)

    def _read(self) -> Iterator[bytes]:
        for number, piece in enumerate(self.pieces):
            self.read_pieces += 1
            yield piece
            if number == len(self.pieces) // 2:
                self.then()
            elif number > len(self.pieces) // 2:
                time.sleep(self.piece_seconds)

    @property
    def is_stopped(self) -> bool:
        """Tell whether it was not read to its end."""
        return len(self.pieces) // 2 < self.read_pieces < len(self.pieces)


def expect(error: type[VSphereError], said: str, act: Callable[[], Any]) -> VSphereError:
    with pytest.raises(error, match=said) as caught:
        act()
    assert caught.value.code == error.code
    assert "web-01" in str(caught.value) or "disk 0" in str(caught.value)
    return caught.value


def test_a_taken_name_is_refused_and_the_other_machine_stays(world: World) -> None:
    first = world.import_one()
    expect(NameTaken, "already exists", lambda: world.import_one(marker="another"))
    assert world.machine_names() == ["web-01"]
    assert world.vcsim.disk_path(first, 0).read_bytes() == STREAM


def test_a_full_datastore_is_refused(untouched: World) -> None:
    untouched.vcsim.faults(full_datastore="LocalDS_0")
    expect(DatastoreFull, "Free space on the datastore", untouched.import_one)


def test_a_datastore_that_fills_up_on_the_way(start: Callable[..., Vcsim]) -> None:
    simulator = start(datastore_capacity=2 * MIB)
    with connect(credentials_of(simulator)) as session:
        small = World(simulator, session)
        expect(DatastoreFull, "Free space on the datastore", small.import_one)
        assert small.machine_names() == []
        assert small.uploaded() == []
        assert small.free_bytes() == 2 * MIB


def test_a_datastore_out_of_reach_is_refused(untouched: World) -> None:
    untouched.vcsim.faults(refuse_datastore="LocalDS_0")
    expect(DatastoreUnusable, "not accessible", untouched.import_one)


@pytest.mark.parametrize(
    "role", ["datacenter", "resource_pool", "datastore", "network", "host", "folder"]
)
def test_a_place_that_is_gone_is_named(untouched: World, role: str) -> None:
    placement = dataclasses.replace(untouched.placement, **{role: "gone-99"})
    said = f"{role.replace('_', ' ')} gone-99"
    expect(PlacementMissing, said, lambda: untouched.import_one(placement=placement))


def test_an_unknown_network_is_named(untouched: World) -> None:
    spec = untouched.spec(nics=[VmNic("dvportgroup-99")])
    expect(PlacementMissing, "network dvportgroup-99", lambda: untouched.import_one(spec))


def test_an_uplink_is_no_network_for_machines(untouched: World) -> None:
    uplink = next(network for network in untouched.inventory.networks if network.is_uplink)
    spec = untouched.spec(nics=[VmNic(uplink.moid)])
    expect(SpecRefused, "uplink", lambda: untouched.import_one(spec))


def test_a_host_of_another_cluster_is_refused(untouched: World) -> None:
    other = next(
        host for host in untouched.inventory.hosts if host.cluster != untouched.cluster.moid
    )
    placement = dataclasses.replace(untouched.placement, host=other.moid)
    expect(SpecRefused, "host", lambda: untouched.import_one(placement=placement))


def test_a_cut_upload_is_told_with_how_far_it_came(untouched: World) -> None:
    untouched.vcsim.faults(cut_upload_after_bytes=MIB)
    large = make_stream(256 * MIB, grains=400)
    expect(
        UploadCut,
        f"broke after [0-9,]+ of {len(large):,} bytes",
        lambda: untouched.import_one(
            untouched.spec([disk_of(0, 256 * MIB)]), [upload_of(0, large)]
        ),
    )


def test_the_next_try_after_a_cut_succeeds(world: World) -> None:
    world.vcsim.faults(cut_upload_after_bytes=MIB)
    with pytest.raises(UploadCut):
        world.import_one()
    moid = world.import_one()
    assert world.vcsim.disk_path(moid, 0).read_bytes() == STREAM


def test_a_lost_lease_ends_the_import(untouched: World) -> None:
    untouched.vcsim.faults(lease_lost_after_bytes=MIB)
    expect(LeaseLost, "Timedout", untouched.import_one)


def test_one_failed_disk_stops_the_others(untouched: World) -> None:
    is_halfway, has_failed = threading.Event(), threading.Event()

    def wait_for_failure() -> None:
        is_halfway.set()
        has_failed.wait(60)

    def fail() -> Iterator[bytes]:
        yield STREAM[:MIB]
        is_halfway.wait(60)
        has_failed.set()
        raise OSError("the store's disk is broken")

    other = HalfwayDisk(wait_for_failure, piece_seconds=0.2)
    with pytest.raises(OSError, match="the store's disk is broken"):
        untouched.import_one(
            untouched.spec([disk_of(0), disk_of(1)]),
            [DiskUpload(0, len(STREAM), fail), other.upload(1)],
        )
    assert other.is_stopped


def test_the_host_s_own_words_are_in_the_error(untouched: World) -> None:
    untouched.vcsim.faults(upload_status=503)
    error = expect(UploadRefused, "503", untouched.import_one)
    assert "a fault asked for by the test" in str(error)


def test_a_stream_that_the_host_refuses_is_quoted(untouched: World) -> None:
    broken = STREAM[:-512] + b"\1" * 512
    uploads = [upload_of(0, broken)]
    expect(UploadRefused, "400 .*end-of-stream", lambda: untouched.import_one(disks=uploads))


@pytest.mark.parametrize(("announced", "said"), [(-1, "more"), (1, "fewer")])
def test_a_stream_of_another_length_is_noticed(untouched: World, announced: int, said: str) -> None:
    uploads = [upload_of(0, STREAM, len(STREAM) + announced)]
    expect(StreamLengthWrong, said, lambda: untouched.import_one(disks=uploads))


def test_a_wrong_digest_is_noticed(untouched: World) -> None:
    untouched.vcsim.faults(wrong_digest=True)
    expect(DigestDiffers, "SHA-1", untouched.import_one)


def test_a_disk_of_another_size_than_its_stream_is_noticed(untouched: World) -> None:
    spec = untouched.spec([disk_of(0, 65 * MIB)])
    expect(DisksUnmatched, "should have", lambda: untouched.import_one(spec))


def test_a_session_that_ends_on_the_way_ends_the_import(untouched: World) -> None:
    disk = HalfwayDisk(lambda: untouched.vcsim.faults(expire_sessions=True))
    expect(SessionLost, "Try again", lambda: untouched.import_one(disks=[disk.upload(0)]))


def test_a_lease_that_the_server_drops_ends_the_import(untouched: World) -> None:
    disk = HalfwayDisk(lambda: untouched.vcsim.faults(expire_leases=True))
    expect(LeaseLost, "Try again", lambda: untouched.import_one(disks=[disk.upload(0)]))


class Cancel:
    """A job's check_cancel: it raises once someone has pressed Cancel."""

    def __init__(self) -> None:
        self.pressed = threading.Event()
        self.heard = threading.Event()

    def __call__(self) -> None:
        if self.pressed.is_set():
            self.heard.set()
            raise Cancelled


@pytest.fixture
def cancel() -> Cancel:
    """A Cancel that nobody has pressed yet."""
    return Cancel()


def test_cancel_before_the_start_changes_nothing(untouched: World, cancel: Cancel) -> None:
    cancel.pressed.set()
    with pytest.raises(Cancelled):
        untouched.import_one(check_cancel=cancel)


def test_cancel_is_heard_while_the_source_hangs(untouched: World, cancel: Cancel) -> None:
    heard: list[bool] = []

    def read() -> Iterator[bytes]:
        yield STREAM[:MIB]
        cancel.pressed.set()
        heard.append(cancel.heard.wait(60))
        yield STREAM[MIB:]

    with pytest.raises(Cancelled):
        untouched.import_one(disks=[DiskUpload(0, len(STREAM), read)], check_cancel=cancel)
    assert heard == [True]


def test_cancel_does_not_wait_for_the_rest_of_the_disk(untouched: World, cancel: Cancel) -> None:
    disk = HalfwayDisk(
        then=lambda: (cancel.pressed.set(), cancel.heard.wait(60)), piece_seconds=0.2
    )
    with pytest.raises(Cancelled):
        untouched.import_one(disks=[disk.upload(0)], check_cancel=cancel)
    assert disk.is_stopped


def test_cancel_keeps_waiting_disks_from_beginning(untouched: World, cancel: Cancel) -> None:
    begun: list[int] = []

    def upload(number: int) -> DiskUpload:
        def read() -> Iterator[bytes]:
            begun.append(number)
            yield STREAM[:MIB]
            cancel.pressed.set()
            cancel.heard.wait(60)
            yield STREAM[MIB:]

        return DiskUpload(number, len(STREAM), read)

    with pytest.raises(Cancelled):
        untouched.import_one(
            untouched.spec([disk_of(number) for number in range(3)]),
            [upload(number) for number in range(3)],
            check_cancel=cancel,
        )
    assert 2 not in begun


def test_a_cancel_in_line_gives_the_place_up(untouched: World) -> None:
    line, told = OwnLine(), []

    def note(text: str) -> None:
        told.append(text)
        cancel.pressed.set()

    cancel = Cancel()
    host = str(untouched.vcsim.host)
    assert [line.ahead(host, name) for name in ("one", "two")] == [0, 1]
    with pytest.raises(Cancelled):
        untouched.import_one(check_cancel=cancel, line=line, note=note)
    assert told == [f"Waiting in line: {host} is receiving two other disks."]
    line.leave(host, "one")
    assert line.ahead(host, "three") == 1


def test_a_long_upload_outlives_the_lease_by_its_keep_alive(start: Callable[..., Vcsim]) -> None:
    simulator = start(lease_timeout=2)
    with connect(credentials_of(simulator)) as session:

        def read() -> Iterator[bytes]:
            yield STREAM[:MIB]
            time.sleep(2.5)
            yield STREAM[MIB:]

        moid = World(simulator, session).import_one(disks=[DiskUpload(0, len(STREAM), read)])
        assert simulator.disk_path(moid, 0).read_bytes() == STREAM


def test_a_call_whose_answer_is_lost_leaves_nothing(untouched: World) -> None:
    untouched.vcsim.faults(fail_call="HttpNfcLeaseComplete")
    with pytest.raises(VSphereError):
        untouched.import_one()


def test_a_leftover_that_cannot_be_removed_is_named(world: World) -> None:
    world.vcsim.faults(fail_call="Destroy_Task")
    spec = world.spec([disk_of(0, 65 * MIB)])
    with pytest.raises(DisksUnmatched, match=f"could not be removed.*{MARKER}"):
        world.import_one(spec)
    world.vcsim.no_faults()
    found = world.session.find_vm(MARKER)
    assert found is not None
    found.destroy(MARKER)


def test_cancel_is_not_held_up_by_a_server_that_hangs(start: Callable[..., Vcsim]) -> None:
    simulator = start()
    cancel = Cancel()

    def hang() -> None:
        simulator.faults(delay_ms=3_600_000)
        cancel.pressed.set()
        cancel.heard.wait(60)

    with connect(credentials_of(simulator), timeout_seconds=1) as session:
        disk = HalfwayDisk(hang)
        with pytest.raises(Cancelled):
            World(simulator, session).import_one(disks=[disk.upload(0)], check_cancel=cancel)


def test_what_cannot_be_aborted_is_gone_once_its_lease_has_run_out(
    start: Callable[..., Vcsim],
) -> None:
    simulator = start(lease_timeout=3)
    simulator.faults(fail_call="HttpNfcLeaseAbort", wrong_digest=True)
    with connect(credentials_of(simulator)) as session:
        world = World(simulator, session)
        expect(DigestDiffers, "SHA-1", world.import_one)
        assert world.machine_names() == []
        assert world.uploaded() == []


def test_streams_must_be_those_of_the_machine_s_disks(untouched: World) -> None:
    uploads = [upload_of(1, STREAM)]
    expect(SpecRefused, "streams to send", lambda: untouched.import_one(disks=uploads))


def test_the_end_of_a_lease_is_heard_while_the_source_hangs(start: Callable[..., Vcsim]) -> None:
    simulator = start(lease_timeout=6)
    asked = threading.Event()
    was_left_alone: list[bool] = []

    def read() -> Iterator[bytes]:
        yield STREAM[:MIB]
        simulator.faults(expire_leases=True)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            asked.clear()
            if not asked.wait(2):  # nobody asks for a cancel any more: the import is ending
                break
        was_left_alone.append(time.monotonic() < deadline)
        yield STREAM[MIB:]

    with connect(credentials_of(simulator)) as session:
        world = World(simulator, session)
        disks = [DiskUpload(0, len(STREAM), read)]
        with pytest.raises(LeaseLost, match="Timedout"):
            world.import_one(disks=disks, check_cancel=asked.set)
    assert was_left_alone == [True]


def test_a_host_with_another_certificate_gets_no_byte(untouched: World) -> None:
    sent: list[bytes] = []

    def read() -> Iterator[bytes]:
        sent.append(STREAM)
        yield STREAM

    untouched.vcsim.faults(wrong_thumbprint=True)
    with pytest.raises(CertificateChanged):
        untouched.import_one(disks=[DiskUpload(0, len(STREAM), read)])
    assert sent == []


def test_streams_of_two_tib_are_refused_early(untouched: World) -> None:
    huge = DiskUpload(0, 1 << 41, lambda: iter(()))
    expect(SpecRefused, "2 TiB", lambda: untouched.import_one(disks=[huge]))


def test_two_imports_at_once_of_one_name_make_one_machine(world: World) -> None:
    def one(number: int) -> str:
        with connect(credentials_of(world.vcsim)) as session:
            return World(world.vcsim, session).import_one(marker=f"import-{number}")

    with ThreadPoolExecutor(4) as pool:
        outcomes = [pool.submit(one, number) for number in range(4)]
    errors = [outcome.exception() for outcome in outcomes]
    assert sum(error is None for error in errors) == 1
    assert all(isinstance(error, NameTaken) for error in errors if error is not None)
    assert world.machine_names() == ["web-01"]


def test_many_machines_at_once_do_not_disturb_each_other(world: World) -> None:
    streams = [make_stream(seed=number + 1) for number in range(6)]

    def one(number: int) -> str:
        with connect(credentials_of(world.vcsim)) as session:
            here = World(world.vcsim, session)
            spec = here.spec([disk_of(0), disk_of(1)], name=f"web-{number}")
            uploads = [upload_of(n, streams[number]) for n in (0, 1)]
            return here.import_one(spec, uploads, marker=f"import-{number}")

    with ThreadPoolExecutor(6) as pool:
        moids = list(pool.map(one, range(6)))
    for moid, stream in zip(moids, streams, strict=True):
        assert world.vcsim.disk_path(moid, 1).read_bytes() == stream
