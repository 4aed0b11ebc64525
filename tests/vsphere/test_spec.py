"""Places of disks, versions and guest ids: pure decisions."""

import pytest

from tests.vsphere.disks import disk_of
from vsphere import VmDisk, VmNic, VmSpec
from vsphere.errors import SpecRefused
from vsphere.inventory import plain_name
from vsphere.spec import (
    DiskSlot,
    assign_slots,
    check_spec,
    choose_guest_id,
    choose_hardware_version,
    escaped_name,
    why_not_kept,
)

KNOWN = ["debian10_64Guest", "debian9_64Guest", "debian10Guest", "otherLinux64Guest", "otherGuest"]


def test_wanted_units_are_kept_and_the_rest_fills_up() -> None:
    slots = assign_slots([disk_of(0), disk_of(1, unit=0), disk_of(2)])
    assert [(slots[n].bus, slots[n].unit) for n in range(3)] == [(0, 1), (0, 0), (0, 2)]


def test_disks_are_attached_in_their_order_whatever_their_numbers() -> None:
    slots = assign_slots([disk_of(2), disk_of(0), disk_of(1, unit=1), disk_of(3)])
    assert {number: slot.unit for number, slot in slots.items()} == {2: 0, 0: 2, 1: 1, 3: 3}


def test_unit_seven_is_the_controller_s_own() -> None:
    units = [slot.unit for slot in assign_slots([disk_of(n) for n in range(16)]).values()]
    assert 7 not in units


def test_four_buses_are_all_there_is() -> None:
    assert len(set(assign_slots([disk_of(n) for n in range(60)]).values())) == 60
    with pytest.raises(SpecRefused, match="disk 60"):
        assign_slots([disk_of(n) for n in range(61)])


def test_ide_has_two_buses_of_two() -> None:
    disks = [disk_of(n, controller="ide") for n in range(4)]
    assert {(slot.bus, slot.unit) for slot in assign_slots(disks).values()} == {
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    }


def test_two_disks_in_one_place_are_refused() -> None:
    with pytest.raises(SpecRefused, match="disk 1"):
        assign_slots([disk_of(0, unit=3), disk_of(1, unit=3)])


@pytest.mark.parametrize(
    ("controller", "name"),
    [
        ("pvscsi", "ParaVirtualSCSIController1:2"),
        ("lsilogic", "VirtualLsiLogicController1:2"),
        ("lsilogicsas", "VirtualLsiLogicSASController1:2"),
        ("sata", "VirtualAHCIController1:2"),
        ("ide", "VirtualIDEController1:2"),
        ("nvme", "VirtualNVMEController1:2"),
    ],
)
def test_places_are_named_as_leases_name_them(controller: str, name: str) -> None:
    assert DiskSlot(controller, 1, 2).import_name == name


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ([], "vmx-17"),
        (["8.0.2"], "vmx-17"),
        (["7.0.3"], "vmx-17"),
        (["7.0.3", "6.7.0"], "vmx-14"),
        (["6.5.0", "8.0.0"], "vmx-13"),
        (["5.5.0"], "vmx-11"),
        (["6.7.0", ""], "vmx-14"),
    ],
)
def test_the_oldest_host_decides_on_the_hardware_version(
    versions: list[str], expected: str
) -> None:
    assert choose_hardware_version(versions) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("debian10_64Guest", "debian10_64Guest"),
        ("debian12_64Guest", "debian10_64Guest"),
        ("debian12Guest", "debian10Guest"),
        ("ubuntu64Guest", "otherLinux64Guest"),
        ("windows2019srv_64Guest", "otherGuest"),
    ],
)
def test_an_unknown_guest_becomes_the_nearest_known_one(wanted: str, expected: str) -> None:
    assert choose_guest_id(wanted, KNOWN) == expected


def test_a_server_that_lists_no_guests_gets_what_was_wanted() -> None:
    assert choose_guest_id("debian12_64Guest", []) == "debian12_64Guest"


@pytest.mark.parametrize("name", ["web-01", "50%", "a/b", "a\\b", "a%2fb", "%25"])
def test_a_name_survives_being_escaped(name: str) -> None:
    escaped = escaped_name(name)
    assert plain_name(escaped) == name
    assert not set(escaped) & set("/\\")


@pytest.mark.parametrize(("cpus", "cores"), [(3, 2), (2, 4), (2, 0)])
def test_cores_that_fill_no_sockets_are_refused(cpus: int, cores: int) -> None:
    disks = [VmDisk(0, 1 << 30)]
    spec = VmSpec("web-01", "otherGuest64", "bios", cpus, 1 << 30, disks, cores_per_socket=cores)
    with pytest.raises(SpecRefused, match="sockets"):
        check_spec(spec)


@pytest.mark.parametrize(
    ("mac", "is_kept"),
    [
        ("52:54:00:12:34:56", True),
        ("00:50:56:3f:ff:ff", True),
        ("00:50:56:40:00:00", False),
        ("00:50:56:bf:00:01", False),
        ("00:0c:29:12:34:56", False),
        ("01:00:5e:00:00:01", False),
        ("00:00:00:00:00:00", False),
        ("", False),
        ("52:54:00:12:34", False),
        ("52-54-00-12-34-56", False),
    ],
)
def test_a_mac_is_kept_where_vsphere_allows_it(mac: str, is_kept: bool) -> None:
    assert (why_not_kept(mac) == "") == is_kept


@pytest.mark.parametrize("mac", ["", "none", "01:00:5e:00:00:01", "52:54:00:12:34:56:78"])
def test_a_mac_that_is_none_of_a_card_is_refused(mac: str) -> None:
    nics = [VmNic("network-7", mac=mac)]
    spec = VmSpec("web-01", "otherGuest64", "bios", 1, 1 << 30, [VmDisk(0, 1 << 30)], nics)
    with pytest.raises(SpecRefused, match="is not the MAC address of a card"):
        check_spec(spec)


@pytest.mark.parametrize(
    ("name", "is_short_enough"),
    [
        ("x" * 80, True),
        ("x" * 81, False),
        ("%" * 80, True),
        ("/" * 80, True),
        ("ü" * 80, True),
        ("\N{DESKTOP COMPUTER}" * 40, True),
        ("\N{DESKTOP COMPUTER}" * 41, False),
        ("", False),
    ],
)
def test_a_name_is_counted_as_vsphere_counts(name: str, is_short_enough: bool) -> None:
    spec = VmSpec(name, "otherGuest64", "bios", 1, 1 << 30, [VmDisk(0, 1 << 30)])
    if is_short_enough:
        check_spec(spec)
    else:
        with pytest.raises(SpecRefused, match="1 to 80 characters"):
            check_spec(spec)


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "a\x00", "a\x7f"])
def test_a_name_with_control_characters_is_refused(name: str) -> None:
    spec = VmSpec(name, "otherGuest64", "bios", 1, 1 << 30, [VmDisk(0, 1 << 30)])
    with pytest.raises(SpecRefused, match="control characters"):
        check_spec(spec)
