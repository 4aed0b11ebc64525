"""Each privilege is asked for, needed by the act that is said to need it, and in the manual."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vsphere.acts import ACTS, Stage
from tests.vsphere.site import World, space
from tests.vsphere.test_machine import ALTERED
from vsphere.errors import NoPermission
from vsphere.privileges import (
    ANSWER,
    DETACH,
    IMPORT,
    NEEDED,
    POWER_OFF,
    POWER_ON,
    READ,
    REBOOT,
    REMOVE,
    Privilege,
    needed_on,
)

MANUAL = Path(__file__).resolve().parents[2] / "docs/vsphere.md"
ACT_OF = {
    IMPORT: "Session.import_vm",
    POWER_ON: "Vm.power_on",
    ANSWER: "Vm.power_on",
    POWER_OFF: "Vm.power_off",
    REBOOT: "Vm.reboot_guest",
    DETACH: "Vm.remove_temporary_disk",
    REMOVE: "Vm.destroy",
}
FAULTS: dict[str, dict[str, Any]] = {ANSWER: {"question": ALTERED}}
EACH = pytest.mark.parametrize("privilege", NEEDED, ids=lambda privilege: privilege.id)
WITH_AN_ACT = pytest.mark.parametrize(
    "privilege", [one for one in NEEDED if one.act != READ], ids=lambda privilege: privilege.id
)


@pytest.fixture(scope="module")
def stage(either: World) -> Iterator[Stage]:
    """One machine that the acts are tried on."""
    one = Stage(either)
    yield one
    one.clean_up("Session.import_vm")


@EACH
def test_a_missing_privilege_is_found_on_each_object(either: World, privilege: Privilege) -> None:
    either.vcsim.faults(missing_privileges=[privilege.id])
    try:
        found = either.session.check_placement(either.placement, "other", space(1 << 20))
    finally:
        either.vcsim.no_faults()
    assert {one.code for one in found} == {"PLACEMENT-PRIVILEGE-MISSING"}
    for role in privilege.on:
        named = f"lacks {privilege.id} on the {role.replace('_', ' ')} "
        assert any(named in one.text for one in found)
    assert len(found) == len(privilege.on)


@WITH_AN_ACT
def test_the_act_that_needs_a_privilege_is_refused_without_it(
    either: World, stage: Stage, privilege: Privilege
) -> None:
    name = ACT_OF[privilege.act]
    vm = stage.prepare(name)
    either.vcsim.faults(missing_privileges=[privilege.id], **FAULTS.get(privilege.act, {}))
    act, _ = ACTS[name]
    try:
        with pytest.raises(NoPermission, match=privilege.id):
            act(either, vm)
    finally:
        stage.clean_up(name)
    assert either.session.find_vm("another") is None


def test_a_vapp_needs_what_a_folder_needs() -> None:
    on_pool, on_folder = (
        set(needed_on(role, is_vapp=False)) for role in ("resource_pool", "folder")
    )
    assert set(needed_on("resource_pool", is_vapp=True)) == on_pool | on_folder


@pytest.mark.parametrize("answer", ["unsupported", "nobody"])
def test_privileges_that_cannot_be_asked_for_are_a_warning(
    world: World, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    content = world.session.calls.content
    if answer == "nobody":
        monkeypatch.setattr(content, "authorizationManager", None)
    else:
        world.vcsim.faults(answers=[{"call": "HasPrivilegeOnEntities", "answer": "not_supported"}])
    (found,) = world.session.check_placement(world.placement, "other", space(1 << 20))
    assert (found.code, found.severity) == ("PLACEMENT-PRIVILEGES-UNKNOWN", "warning")


def test_the_manual_lists_each_privilege_with_its_act_and_objects() -> None:
    rows = re.findall(
        r"^\| `([A-Z]\w+\.[\w.]+)` \| ([^|]+) \| ([^|]+) \|$", MANUAL.read_text(), re.M
    )
    objects = {"folder": "VM folder"}
    assert rows == [
        (
            one.id,
            ", ".join(objects.get(role, role.replace("_", " ")) for role in one.on),
            one.act,
        )
        for one in NEEDED
    ]
