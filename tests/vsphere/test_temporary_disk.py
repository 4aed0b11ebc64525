"""A temporary disk is removed while the machine runs, and nothing else ever is."""

import pytest

from tests.vsphere.disks import MIB, disk_of, make_stream, upload_of
from tests.vsphere.site import STREAM, TEMPORARY_BYTES, World, with_temporary_disk
from tests.vsphere.test_machine import configure, further
from vsphere import Vm, VmDisk
from vsphere.errors import SpecRefused
from vsphere.spec import MAX_TEMPORARY_BYTES, TEMPORARY_KEY


@pytest.fixture
def vm(world: World) -> Vm:
    """A machine with one disk of its own, and a temporary one."""
    return world.session.get_vm(with_temporary_disk(world))


def sizes(vm: Vm) -> list[int]:
    return [disk.capacity_bytes for disk in vm.hardware().disks]


@pytest.mark.parametrize("is_on", [False, True])
def test_it_is_removed_with_its_file(world: World, vm: Vm, is_on: bool) -> None:
    assert sizes(vm) == [64 * MIB, TEMPORARY_BYTES]
    if is_on:
        vm.power_on()
    free_bytes = world.free_bytes()
    for _ in range(2):
        vm.remove_temporary_disk()
        assert sizes(vm) == [64 * MIB]
        assert TEMPORARY_KEY not in further(vm)
    assert world.uploaded() == [f"{vm.moid}/disk-0.vmdk"]
    assert world.free_bytes() > free_bytes
    vm.refresh()
    assert vm.is_on == is_on


def test_a_disk_in_its_place_that_has_another_size_is_kept(vm: Vm) -> None:
    own, temporary = vm.hardware().disks
    assert own.slot is not None
    assert temporary.slot is not None
    recorded = further(vm)[TEMPORARY_KEY]
    assert recorded == f"{temporary.slot.import_name} {TEMPORARY_BYTES}"
    configure(vm, understudy__temporary_disk=f"{own.slot.import_name} {TEMPORARY_BYTES}")
    vm.remove_temporary_disk()
    assert len(vm.hardware().disks) == 2


def test_a_machine_without_one_is_not_changed(world: World) -> None:
    vm = world.session.get_vm(world.import_one())
    vm.remove_temporary_disk()
    assert sizes(vm) == [64 * MIB]


@pytest.mark.parametrize(
    "disks",
    [
        [disk_of(0), VmDisk(1, MIB, is_temporary=True), VmDisk(2, MIB, is_temporary=True)],
        [disk_of(0), VmDisk(1, MAX_TEMPORARY_BYTES + MIB, is_temporary=True)],
    ],
    ids=["two", "large"],
)
def test_only_one_small_disk_can_be_temporary(world: World, disks: list[VmDisk]) -> None:
    streams = [upload_of(0, STREAM)]
    streams += [upload_of(disk.number, make_stream(MIB)) for disk in disks[1:]]
    with pytest.raises(SpecRefused, match="can be temporary"):
        world.import_one(world.spec(disks=disks), streams)
