"""Everything that `vsphere` does for its callers, each with what comes of it."""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.vsphere.screens import PICTURE, picture_of
from tests.vsphere.site import MARKER, World, space, with_temporary_disk
from vsphere import Session, Vm
from vsphere.errors import VmMissing

Act = Callable[[World, Vm], Any]

# Act and outcome by name. `vm` is off before those of ON.
ACTS: dict[str, tuple[Act, Any]] = {
    "Session.about": (lambda world, vm: world.session.about().version, "7.0.0"),
    "Session.inventory": (lambda world, vm: world.session.inventory().hosts[0].is_connected, True),
    "Session.check_placement": (
        lambda world, vm: world.session.check_placement(world.placement, "other", space(1 << 20)),
        [],
    ),
    "Session.disk_step_bytes": (
        lambda world, vm: world.session.disk_step_bytes(world.datastore.moid),
        512,
    ),
    "Session.import_vm": (
        lambda world, vm: (
            world.session.get_vm(
                world.import_one(world.spec(name="other"), marker="another")
            ).is_complete
        ),
        True,
    ),
    "Session.get_vm": (lambda world, vm: world.session.get_vm(vm.moid).name, "web-01"),
    "Session.find_vm": (
        lambda world, vm: found.name if (found := world.session.find_vm(MARKER)) else "",
        "web-01",
    ),
    "Session.find_marked_vms": (
        lambda world, vm: [one.name for one in world.session.find_marked_vms(MARKER[:8])],
        ["web-01"],
    ),
    "Session.take_screenshot": (lambda world, vm: picture_of(world, vm.moid), PICTURE),
    "Vm.refresh": (lambda world, vm: vm.refresh() or vm.marker, MARKER),
    "Vm.power_on": (lambda world, vm: vm.power_on() or vm.is_on, True),
    "Vm.power_off": (lambda world, vm: vm.power_off() or vm.is_on, False),
    "Vm.reboot_guest": (lambda world, vm: vm.reboot_guest(), "reset"),
    "Vm.shut_down_guest": (lambda world, vm: vm.shut_down_guest(), False),
    "Vm.guest": (lambda world, vm: vm.guest().tools_running, False),
    "Vm.hardware": (lambda world, vm: vm.hardware().disks[0].capacity_bytes, 64 << 20),
    "Vm.remove_temporary_disk": (
        lambda world, vm: vm.remove_temporary_disk() or len(vm.hardware().disks),
        1,
    ),
    "Vm.destroy": (lambda world, vm: vm.destroy(MARKER), None),
}
ON = ("Vm.power_off", "Vm.reboot_guest", "Vm.shut_down_guest")
WITH_TEMPORARY_DISK = ("Vm.remove_temporary_disk",)
# The server is asked for the screen, but not through the API.
OUTSIDE_OF_API = ("Session.take_screenshot",)
WITHOUT_CALLS = ("Session.about", *OUTSIDE_OF_API, "Vm.guest")


def public_acts() -> Iterator[str]:
    """Yield the public methods of what callers get from `vsphere`."""
    for kind in (Session, Vm):
        for name, _ in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_"):
                yield f"{kind.__name__}.{name}"


@dataclass
class Stage:
    """A world with one machine that acts are tried on, made again only after its removal."""

    world: World
    _vm: Vm | None = None
    _called: dict[str, list[str]] = field(default_factory=dict)

    def prepare(self, name: str) -> Vm:
        """Return the machine, on if the act needs it, with a temporary disk if it needs one."""
        with contextlib.suppress(VmMissing):
            if self._vm is not None:
                self._vm.refresh()
                if name not in WITH_TEMPORARY_DISK:
                    self._switch(self._vm, name in ON)
                    return self._vm
                self._switch(self._vm, False)
                self._vm.destroy(MARKER)
        make = with_temporary_disk if name in WITH_TEMPORARY_DISK else World.import_one
        self._vm = self.world.session.get_vm(make(self.world))
        self._switch(self._vm, name in ON)
        return self._vm

    @staticmethod
    def _switch(vm: Vm, on: bool) -> None:
        if vm.is_on != on:
            (vm.power_on if on else vm.power_off)()

    def clean_up(self, name: str) -> None:
        """Remove what the act made besides, and all faults."""
        self.world.vcsim.no_faults()
        other = None
        if name == "Session.import_vm":
            other = self.world.session.find_vm("another")
        if other is not None:
            other.destroy("another")

    def called(self, name: str) -> list[str]:
        """Return the methods of the server that an act calls."""
        if name not in self._called:
            methods: dict[str, None] = {}

            def note(request: bytes) -> bytes:
                methods[request.partition(b"<soapenv:Body><")[2].split(b" ")[0].decode()] = None
                return request

            vm = self.prepare(name)
            act, outcome = ACTS[name]
            with self.world.session.calls.stub.requestModifier(note):
                assert act(self.world, vm) == outcome
            self.clean_up(name)
            self._called[name] = list(methods)
        return self._called[name]
