"""Imports that succeed: what comes out is what was asked for."""

import dataclasses
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vsphere.disks import MIB, disk_of, make_stream, upload_of
from tests.vsphere.site import MARKER, STREAM, World, space
from vsphere import DiskUpload, VmNic
from vsphere.api import vim
from vsphere.errors import SpecRefused
from vsphere.machine import read_vm
from vsphere.spec import CONTROLLERS, MARKER_KEY
from vsphere.upload import OwnLine


def test_the_disk_arrives_byte_for_byte(world: World) -> None:
    moid = world.import_one()
    assert world.vcsim.disk_path(moid, 0).read_bytes() == STREAM
    assert world.machine_names() == ["web-01"]
    assert not world.session.get_vm(moid).is_on


def test_the_hardware_is_that_of_the_protected_machine(world: World) -> None:
    networks = [network for network in world.inventory.networks if not network.is_uplink]
    spec = world.spec(
        firmware="efi",
        cpus=6,
        cores_per_socket=3,
        memory_bytes=(1 << 30) + 1,
        nics=[VmNic(networks[0].moid, "e1000", "00:50:56:00:00:01"), VmNic(networks[1].moid)],
        extra={"understudy.machine": "abc"},
    )
    hardware = world.session.get_vm(world.import_one(spec)).hardware()
    assert (hardware.cpus, hardware.cores_per_socket, hardware.firmware) == (6, 3, "efi")
    assert hardware.memory_bytes == (1028 << 20)  # rounded up to 4 MiB
    assert [nic.adapter for nic in hardware.nics] == ["e1000", "vmxnet3"]
    assert hardware.nics[0].mac == "00:50:56:00:00:01"
    assert [disk.capacity_bytes for disk in hardware.disks] == [64 * MIB]


@pytest.mark.parametrize("name", ["a/b", "50%", "a\\b", "a%2fb", "\N{DESKTOP COMPUTER}" * 40])
def test_a_name_of_any_characters_is_found_as_it_was_given(world: World, name: str) -> None:
    vm = world.session.get_vm(world.import_one(world.spec(name=name)))
    assert vm.name == name
    assert world.machine_names() == [name]
    (found,) = world.session.check_placement(world.placement, name, space(1 << 20))
    assert found.code == "PLACEMENT-NAME-TAKEN"


def test_guest_ids_are_asked_for_of_the_version_that_is_chosen(world: World) -> None:
    asked: list[bytes] = []

    def note(request: bytes) -> bytes:
        asked.append(request)
        return request

    with world.session.calls.stub.requestModifier(note):
        world.import_one()
    (question,) = [one for one in asked if b"<QueryConfigOption " in one]
    (order,) = [one for one in asked if b"<ImportVApp " in one]
    version = re.search(rb"<version[^>]*>(vmx-\d+)</version>", order)
    assert version is not None
    assert re.search(rb"<key[^>]*>" + version[1] + rb"</key>", question)


def test_several_disks_go_to_their_own_places(world: World) -> None:
    streams = {number: make_stream((64 + number) * MIB, seed=number + 1) for number in range(4)}
    disks = [disk_of(number, (64 + number) * MIB) for number in range(4)]
    uploads = [upload_of(number, stream) for number, stream in streams.items()]
    moid = world.import_one(world.spec(disks), uploads[::-1])
    for number, stream in streams.items():
        assert world.vcsim.disk_path(moid, number).read_bytes() == stream


def test_disks_of_one_size_are_told_apart_by_their_place(world: World) -> None:
    streams = [make_stream(seed=1), make_stream(seed=2)]
    disks = [disk_of(0, unit=5), disk_of(1, unit=2)]
    moid = world.import_one(world.spec(disks), [upload_of(1, streams[1]), upload_of(0, streams[0])])
    assert world.vcsim.disk_path(moid, 0).read_bytes() == streams[0]
    assert world.vcsim.disk_path(moid, 1).read_bytes() == streams[1]


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_every_controller_is_kept(world: World, controller: str) -> None:
    disks = [disk_of(0, controller=controller, unit=0), disk_of(1, controller=controller, unit=1)]
    moid = world.import_one(world.spec(disks), [upload_of(n, STREAM) for n in (0, 1)])
    slots = [disk.slot for disk in world.session.get_vm(moid).hardware().disks]
    assert [(slot.controller, slot.unit) for slot in slots if slot] == [
        (controller, 0),
        (controller, 1),
    ]


def test_seventeen_disks_leave_unit_seven_to_the_controller(world: World) -> None:
    disks = [disk_of(number) for number in range(17)]
    moid = world.import_one(world.spec(disks), [upload_of(n, STREAM) for n in range(17)])
    slots = [disk.slot for disk in world.session.get_vm(moid).hardware().disks]
    assert {(slot.bus, slot.unit) for slot in slots if slot} == {
        *((0, unit) for unit in range(16) if unit != 7),
        (1, 0),
        (1, 1),
    }


def test_a_stand_alone_host_takes_it_too(esx: World) -> None:
    moid = esx.import_one()
    assert esx.vcsim.disk_path(moid, 0).read_bytes() == STREAM
    vm = esx.session.get_vm(moid)
    vm.power_on()
    assert esx.session.get_vm(moid).is_on


def test_a_host_that_was_chosen_is_the_one(world: World) -> None:
    host = world.cluster.hosts[1]
    moid = world.import_one(placement=dataclasses.replace(world.placement, host=host))
    runs_on = read_vm(world.session.calls, moid, ("runtime.host",))["runtime.host"]
    assert runs_on._moId == host


def test_the_marker_finds_the_machine_again(world: World) -> None:
    moid = world.import_one()
    found = world.session.find_vm(MARKER)
    assert found is not None
    assert (found.moid, found.marker) == (moid, MARKER)
    assert world.session.find_vm("another") is None


def test_a_marker_in_the_notes_alone_is_not_enough(world: World) -> None:
    moid = world.import_one(marker="something else")
    copied = vim.vm.ConfigSpec(
        annotation=f"{MARKER} {MARKER_KEY}={MARKER}",
        extraConfig=[vim.option.OptionValue(key=MARKER_KEY, value="somebody else's")],
    )
    vim.VirtualMachine(moid, world.session.calls.stub).ReconfigVM_Task(spec=copied)
    assert world.session.find_vm(MARKER) is None
    world.session.get_vm(moid).destroy("somebody else's")


def test_a_machine_is_complete_only_when_its_import_is_over(world: World) -> None:
    seen: list[bool] = []

    def observe() -> None:
        vm = world.session.find_vm(MARKER)
        if vm is not None:
            seen.append(vm.is_complete)

    moid = world.import_one(check_cancel=observe)
    assert seen
    assert not any(seen)
    assert world.session.get_vm(moid).is_complete


def test_progress_rises_to_all_of_it_in_the_calling_thread(world: World) -> None:
    seen: list[tuple[int, int]] = []
    threads = set()

    def progress(done_bytes: int, total_bytes: int) -> None:
        seen.append((done_bytes, total_bytes))
        threads.add(threading.get_ident())

    world.import_one(progress=progress)
    assert seen[-1] == (len(STREAM), len(STREAM))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert threads == {threading.get_ident()}


def test_the_datastore_is_charged_for_what_is_in_the_disk(world: World) -> None:
    before = world.free_bytes()
    moid = world.import_one()
    assert before - world.free_bytes() == 40 * 65536
    world.session.get_vm(moid).destroy(MARKER)
    assert world.free_bytes() == before


def test_what_was_kept_is_a_disk_for_qemu(world: World, tmp_path: Path) -> None:
    moid = world.import_one()
    raw = tmp_path / "disk.raw"
    kept = world.vcsim.disk_path(moid, 0)
    subprocess.run(
        ["qemu-img", "convert", "-f", "vmdk", "-O", "raw", str(kept), str(raw)],
        check=True,
        timeout=60,
    )
    assert raw.stat().st_size == 64 * MIB


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": ""}, "the name must have 1 to 80"),
        ({"name": "x" * 81}, "the name must have 1 to 80"),
        ({"firmware": "uefi"}, "neither bios nor efi"),
        ({"cpus": 0}, "at least one CPU"),
        ({"disks": []}, "at least one disk"),
        ({"disks": [disk_of(0, 1000)]}, "impossible size"),
        ({"nics": [VmNic("network-7", "token-ring")]}, "token-ring"),
        ({"disks": [disk_of(0, controller="mfm")]}, "mfm"),
        ({"disks": [disk_of(0, unit=7)]}, "no unit 7 free"),
    ],
)
def test_an_impossible_machine_is_refused_before_the_server_is_asked(
    world: World, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(SpecRefused, match=said):
        world.import_one(world.spec(**changes))
    assert world.machine_names() == []


def test_an_import_waits_in_line_and_says_so(world: World) -> None:
    """Its lease is kept alive meanwhile, although nothing is sent."""
    line, told = OwnLine(), []

    def note(text: str) -> None:
        told.append((text, world.uploaded()))
        line.leave(world.vcsim.host, "one")

    for name in ("one", "two"):
        line.ahead(world.vcsim.host, name)
    moid = world.import_one(line=line, note=note)
    assert world.vcsim.disk_path(moid, 0).read_bytes() == STREAM
    assert [text for text, _ in told] == [
        f"Waiting in line: {world.vcsim.host} is receiving two other disks.",
        "Sending the disks.",
    ]
    assert told[0][1] == []
    assert line.ahead(world.vcsim.host, "three") == 1  # only "two" is left


def test_no_more_than_two_disks_are_sent_to_a_host_at_once(world: World) -> None:
    sending, most = set(), []

    def upload(number: int) -> DiskUpload:
        def read() -> Iterator[bytes]:
            sending.add(number)
            most.append(len(sending))
            yield STREAM
            sending.discard(number)

        return DiskUpload(number, len(STREAM), read)

    disks = [disk_of(number) for number in range(5)]
    world.import_one(world.spec(disks), [upload(number) for number in range(5)])
    assert len(most) == 5
    assert max(most) <= 2
