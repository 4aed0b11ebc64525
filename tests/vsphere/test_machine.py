"""Power, questions, guests and removal."""

import dataclasses
from typing import Any

import pytest

from tests.vsphere.site import MARKER, World
from vsphere import VmIdentity
from vsphere.api import vim
from vsphere.errors import (
    DigestDiffers,
    NotOurVm,
    PlacementMissing,
    ResourcesMissing,
    SeveralVms,
    TookTooLong,
    VmAsks,
    VmBusy,
    VmMissing,
    VSphereUnreachable,
    WrongPowerState,
)
from vsphere.guest import choose_address
from vsphere.machine import Vm, get_vm, read_vm
from vsphere.spec import BOOT_ID_KEY

ALTERED = {
    "id": "msg.uuid.altered",
    "text": "This virtual machine might have been moved or copied.",
    "choices": {"0": "Cancel", "1": "I Moved It", "2": "I Copied It"},
    "cancel": "0",
}


@pytest.fixture
def vm(world: World) -> Vm:
    """A machine that is off."""
    return world.session.get_vm(world.import_one())


def configure(vm: Vm, **options: str) -> None:
    """Set keys of a machine's further configuration, `__` standing for a dot."""
    extra = [
        vim.option.OptionValue(key=key.replace("__", "."), value=value)
        for key, value in options.items()
    ]
    vm._target().ReconfigVM_Task(spec=vim.vm.ConfigSpec(extraConfig=extra))
    vm.refresh()


def further(vm: Vm) -> dict[str, str]:
    options = read_vm(vm.calls, vm.moid, ("config.extraConfig",))["config.extraConfig"]
    return {option.key: option.value for option in options}


def start_guest(vm: Vm, address: str = "127.0.2.1") -> None:
    """Have the simulator show a guest with running tools."""
    configure(
        vm,
        SET__guest__ipAddress=address,
        SET__guest__hostName="web-01",
        SET__guest__toolsRunningStatus="guestToolsRunning",
        guestinfo__understudy__boot_id="boot-1",
    )


def test_power_on_and_off_may_be_repeated(vm: Vm) -> None:
    for _ in range(2):
        vm.power_on()
        assert get_vm(vm.calls, vm.moid).is_on
    for _ in range(2):
        vm.power_off()
        assert not get_vm(vm.calls, vm.moid).is_on


def test_a_machine_outside_of_clusters_is_powered_on_too(world: World) -> None:
    single = next(one for one in world.inventory.clusters if not one.is_cluster)
    placement = dataclasses.replace(world.placement, resource_pool=single.resource_pool)
    vm = world.session.get_vm(world.import_one(placement=placement))
    vm.power_on()
    assert vm.is_on


def test_drs_that_does_not_even_try_is_no_success(world: World, vm: Vm) -> None:
    world.vcsim.faults(not_attempted=True)
    with pytest.raises(ResourcesMissing, match="web-01"):
        vm.power_on()
    assert not world.session.get_vm(vm.moid).is_on


def test_the_known_question_is_answered_with_copied(world: World, vm: Vm) -> None:
    world.vcsim.faults(question=ALTERED)
    vm.power_on()
    assert world.session.get_vm(vm.moid).is_on


def test_another_question_is_put_to_a_person(world: World, vm: Vm) -> None:
    world.vcsim.faults(
        question={
            "id": "msg.hbacommon.outofspace",
            "text": "There is no more space for virtual disk web-01.vmdk.",
            "choices": {"0": "Cancel", "1": "Retry"},
            "cancel": "0",
        }
    )
    with pytest.raises(VmAsks, match="no more space") as caught:
        vm.power_on()
    assert "Retry" in str(caught.value)
    vm._target().AnswerVM(questionId="msg.hbacommon.outofspace", answerChoice="0")
    assert not world.session.get_vm(vm.moid).is_on


def test_a_task_that_never_ends_is_given_up(world: World, vm: Vm) -> None:
    asked = {**ALTERED, "id": "msg.unknown", "choices": {}}
    world.vcsim.faults(question=asked)
    with pytest.raises((TookTooLong, VmAsks)):
        vm.power_on(limit_seconds=1)
    vm._target().AnswerVM(questionId="msg.unknown", answerChoice="0")


def test_a_refused_power_on_is_told(world: World, vm: Vm) -> None:
    world.vcsim.faults(fail_call="PowerOnMultiVM_Task")
    with pytest.raises(VSphereUnreachable, match="Power on web-01"):
        vm.power_on()


def test_guest_is_unknown_until_its_tools_run(vm: Vm) -> None:
    vm.power_on()
    guest = vm.guest()
    assert (guest.address, guest.hostname, guest.tools_running, guest.boot_id) == (
        None,
        None,
        False,
        None,
    )
    start_guest(vm)
    guest = vm.guest()
    assert (guest.address, guest.hostname, guest.tools_running, guest.boot_id) == (
        "127.0.2.1",
        "web-01",
        True,
        "boot-1",
    )


def test_the_address_is_that_of_the_adapter(vm: Vm) -> None:
    vm.power_on()
    start_guest(vm)
    (nic,) = vm.hardware().nics
    assert vm.guest(nic.mac.upper()).address == "127.0.2.1"
    assert vm.guest("00:50:56:00:00:99").address is None


def test_an_address_goes_with_the_power(vm: Vm) -> None:
    vm.power_on()
    start_guest(vm)
    vm.power_off()
    vm.refresh()
    assert vm.guest().address is None
    assert not vm.guest().tools_running


def test_a_key_is_replaced_and_removed_by_an_empty_value(vm: Vm) -> None:
    for value in ("one", "two"):
        configure(vm, guestinfo__understudy__boot_id=value)
        assert further(vm)[BOOT_ID_KEY] == value
    configure(vm, guestinfo__understudy__boot_id="")
    assert BOOT_ID_KEY not in further(vm)


def test_reboot_asks_the_guest_where_tools_run(vm: Vm) -> None:
    vm.power_on()
    start_guest(vm)
    assert vm.reboot_guest() == "guest"
    assert further(vm)["lab.reboot_request"] == "1"
    vm.refresh()
    assert not vm.guest().tools_running
    assert get_vm(vm.calls, vm.moid).is_on


def test_reboot_resets_where_no_tools_run(vm: Vm) -> None:
    vm.power_on()
    for count in ("1", "2"):
        assert vm.reboot_guest() == "reset"
        assert further(vm)["lab.reset_request"] == count
    assert get_vm(vm.calls, vm.moid).is_on


def test_a_shutdown_is_the_guest_s_own(vm: Vm) -> None:
    vm.power_on()
    with pytest.raises(vim.fault.ToolsUnavailable):
        vm._target().ShutdownGuest()
    start_guest(vm)
    vm._target().ShutdownGuest()
    assert further(vm)["lab.shutdown_request"] == "1"
    assert get_vm(vm.calls, vm.moid).is_on


def test_a_machine_that_is_off_cannot_be_rebooted(vm: Vm) -> None:
    with pytest.raises(WrongPowerState):
        vm.reboot_guest()


def test_removal_may_be_repeated(world: World, vm: Vm) -> None:
    vm.destroy(MARKER)
    vm.destroy(MARKER)
    assert world.machine_names() == []
    with pytest.raises(VmMissing, match=vm.moid):
        world.session.get_vm(vm.moid)


def test_another_s_machine_is_never_removed(world: World, vm: Vm) -> None:
    with pytest.raises(NotOurVm, match=f"{MARKER}, not another"):
        vm.destroy("another")
    assert world.machine_names() == ["web-01"]


def test_a_machine_that_is_on_is_not_removed(world: World, vm: Vm) -> None:
    vm.power_on()
    with pytest.raises(WrongPowerState):
        vm.destroy(MARKER)
    assert world.machine_names() == ["web-01"]


def test_a_machine_under_import_is_busy(world: World) -> None:
    busy: list[type[Exception]] = []

    def observe() -> None:
        vm = world.session.find_vm(MARKER)
        if vm is None or busy:
            return
        for act in (vm.power_on, lambda: vm.destroy(MARKER)):
            try:
                act()
            except VmBusy as error:
                busy.append(type(error))

    world.import_one(check_cancel=observe)
    assert busy == [VmBusy, VmBusy]


def test_missing_machines_are_told_from_missing_places(world: World) -> None:
    with pytest.raises(VmMissing, match="vm-999"):
        world.session.get_vm("vm-999")
    assert not issubclass(VmMissing, PlacementMissing)


def restore_a_copy(world: World) -> Vm:
    """Make what a backup product restores: another machine with the notes and keys of the first."""
    return world.session.get_vm(world.import_one(world.spec(name="web-01-restored")))


def test_copies_with_one_marker_are_named_and_none_is_chosen(world: World, vm: Vm) -> None:
    copy = restore_a_copy(world)
    with pytest.raises(SeveralVms) as caught:
        world.session.find_vm(MARKER)
    assert vm.title in str(caught.value)
    assert copy.title in str(caught.value)


def test_a_machine_whose_identity_is_known_is_told_from_its_copies(world: World, vm: Vm) -> None:
    restore_a_copy(world)
    found = world.session.find_vm(MARKER, vm.identity)
    assert found is not None
    assert found.identity == vm.identity
    assert vm.identity.instance_uuid
    found.destroy(MARKER)
    assert world.session.find_vm(MARKER, vm.identity) is None
    assert world.session.find_vm(MARKER, VmIdentity(vm.moid)) is None
    assert world.machine_names() == ["web-01-restored"]


def test_a_machine_that_was_registered_again_is_found_by_its_instance_uuid(
    world: World, vm: Vm
) -> None:
    restore_a_copy(world)
    found = world.session.find_vm(MARKER, VmIdentity("vm-99999", vm.instance_uuid))
    assert found is not None
    assert found.moid == vm.moid


def test_an_id_that_another_machine_has_now_is_not_the_job_s(world: World, vm: Vm) -> None:
    other = world.session.get_vm(world.import_one(world.spec(name="db-01"), marker="another"))
    found = world.session.find_vm(MARKER, VmIdentity(other.moid, vm.instance_uuid))
    assert found is not None
    assert found.moid == vm.moid
    assert world.session.find_vm(MARKER, VmIdentity(other.moid)) is None


@pytest.mark.parametrize(("marker", "instance_uuid"), [("another", None), (MARKER, "0000")])
def test_a_machine_that_is_only_half_the_job_s_is_refused(
    world: World, vm: Vm, marker: str, instance_uuid: str | None
) -> None:
    identity = VmIdentity(vm.moid, instance_uuid or vm.instance_uuid)
    with pytest.raises(NotOurVm, match="Find out who changed it"):
        world.session.find_vm(marker, identity)


def test_a_failed_import_removes_only_what_it_made(world: World) -> None:
    copy = restore_a_copy(world)
    world.vcsim.faults(wrong_digest=True)
    with pytest.raises(DigestDiffers):
        world.import_one()
    assert world.machine_names() == [copy.name]


def nic(mac: str, *addresses: str, state: str | None = "preferred", card: int = 4000) -> Any:
    configured = [
        vim.net.IpConfigInfo.IpAddress(ipAddress=address, prefixLength=24, state=state)
        for address in addresses
    ]
    return vim.vm.GuestInfo.NicInfo(
        macAddress=mac,
        connected=True,
        deviceConfigId=card,
        ipConfig=vim.net.IpConfigInfo(ipAddress=configured),
    )


@pytest.mark.parametrize(
    ("nics", "expected"),
    [
        ([], None),
        ([nic("a", "169.254.3.4", "fe80::1")], None),
        ([nic("a", "fe80::1", "2001:db8::5", "10.0.0.5")], "10.0.0.5"),
        ([nic("a", "2001:db8::5")], "2001:db8::5"),
        ([nic("a", "10.0.0.5", state="duplicate")], None),
        ([nic("a", "not an address")], None),
        ([nic("a", "169.254.1.1"), nic("b", "10.0.0.6")], "10.0.0.6"),
    ],
)
def test_addresses_that_nobody_can_reach_are_passed_over(
    nics: list[Any], expected: str | None
) -> None:
    assert choose_address({"guest.net": nics}, None) == expected


DOCKER = nic("d", "172.17.0.1", card=-1)


@pytest.mark.parametrize(
    ("told", "nics", "expected"),
    [
        ("172.17.0.1", [DOCKER, nic("a", "10.0.0.5")], "10.0.0.5"),
        ("172.17.0.1", [DOCKER, nic("a", "169.254.1.1")], None),
        ("172.17.0.1", [DOCKER], None),
        ("10.0.0.6", [nic("a", "192.0.2.5"), nic("b", "10.0.0.6"), DOCKER], "10.0.0.6"),
        ("2001:db8::5", [nic("a", "10.0.0.5", "2001:db8::5")], "2001:db8::5"),
        ("10.0.0.7", [nic("a", "10.0.0.5")], "10.0.0.5"),
        ("10.0.0.7", [], "10.0.0.7"),
    ],
)
def test_the_address_is_one_of_the_machine_s_own_adapters(
    told: str, nics: list[Any], expected: str | None
) -> None:
    assert choose_address({"guest.ipAddress": told, "guest.net": nics}, None) == expected
