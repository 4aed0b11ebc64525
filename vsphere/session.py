"""One session with a vSphere: what callers of this package work with."""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from vsphere import placement as placements
from vsphere.api import vim, vmodl
from vsphere.errors import VmMissing
from vsphere.faults import BROKEN_CONNECTION, translate
from vsphere.inventory import Inventory, plain_name, read_all
from vsphere.lease import ProgressReport, import_vm
from vsphere.machine import Vm
from vsphere.placement import Finding
from vsphere.properties import Properties, read, read_inventory
from vsphere.spec import COMPLETE_KEY, MARKER_KEY, DiskUpload, Placement, VmSpec

if TYPE_CHECKING:
    from vsphere.connection import Door

log = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass(frozen=True)
class About:
    """What answers at the address."""

    name: str
    version: str
    build: str
    api_version: str
    is_vcenter: bool


class Session:
    """A signed-in session. It signs in again by itself when it has expired between two calls."""

    def __init__(self, door: "Door") -> None:
        self.door = door
        self.stub: Any = None
        self._sign_in()

    def _sign_in(self) -> None:
        instance = self.door.open()
        if self.stub is not None:
            self.stub.DropConnections()
        self.stub = instance._stub
        self.content: Any = instance.RetrieveContent()

    def sign_out(self) -> None:
        """End the session; it cannot be used afterwards."""
        try:
            self.content.sessionManager.Logout()
        finally:
            self.stub.DropConnections()

    def reading(self, doing: str, call: Callable[[Any], Result]) -> Result:
        """Return what `call` reads from the service content it is given.

        After an expired session, or once after a broken connection, it is called again.
        """
        try:
            return call(self.content)
        except vim.fault.NotAuthenticated:
            log.info("vsphere session expired, signing in again")
            self._sign_in()
        except BROKEN_CONNECTION as error:
            log.info("vsphere connection broke, reading again error=%s", error)
        except vmodl.MethodFault as fault:
            raise translate(fault, doing) from fault
        try:
            return call(self.content)
        except (vmodl.MethodFault, *BROKEN_CONNECTION) as fault:
            raise translate(fault, doing) from fault

    def writing(self, doing: str, call: Callable[[Any], Result]) -> Result:
        """Return what `call` does with the stub it is given.

        It is called again only where the server refused to listen, never where it may have acted.
        """
        try:
            return call(self.stub)
        except vim.fault.NotAuthenticated:
            self._sign_in()
        except (vmodl.MethodFault, *BROKEN_CONNECTION) as fault:
            raise translate(fault, doing) from fault
        try:
            return call(self.stub)
        except (vmodl.MethodFault, *BROKEN_CONNECTION) as fault:
            raise translate(fault, doing) from fault

    def about(self) -> About:
        """Tell what this vSphere is."""
        of = self.content.about
        return About(
            name=of.fullName,
            version=of.version,
            build=of.build,
            api_version=of.apiVersion,
            is_vcenter=of.apiType == "VirtualCenter",
        )

    def inventory(self, *, with_virtual_machines: bool = False) -> Inventory:
        """Read the inventory; the virtual machines only if wanted."""
        return self.reading(
            "Read the inventory",
            lambda content: read_all(content, with_virtual_machines=with_virtual_machines),
        )

    def check_placement(
        self, placement: Placement, vm_name: str, needed_bytes: int
    ) -> list[Finding]:
        """Return what speaks against making `vm_name` there; an empty list if nothing does."""
        return self.reading(
            f"Check where {vm_name} is to go",
            lambda content: placements.check(content, placement, vm_name, needed_bytes),
        )

    def import_vm(
        self,
        spec: VmSpec,
        disks: list[DiskUpload],
        placement: Placement,
        marker: str,
        progress: ProgressReport = lambda done_bytes, total_bytes: None,
        check_cancel: Callable[[], None] = lambda: None,
        *,
        parallel_uploads: int = 2,
    ) -> str:
        """Make a machine, powered off, from streamOptimized disks; return its id.

        `marker` is kept in the machine and must be unique; only with it can the machine be removed
        again. `progress(done_bytes, total_bytes)` and `check_cancel()` are called by the calling
        thread; what `check_cancel` raises ends the import.

        On any failure the import is aborted, and what it had made is removed, before the error
        is raised.

        Raises:
            NameTaken, DatastoreFull, PlacementMissing, SpecRefused, NoPermission: refused.
            LeaseLost, UploadCut, UploadRefused, StreamLengthWrong, DigestDiffers, SessionLost:
                ended in the middle.
        """
        return import_vm(
            self, spec, disks, placement, marker, progress, check_cancel, parallel_uploads
        )

    def find_vm_by_marker(self, marker: str) -> Vm | None:
        """Return the machine that was made with `marker`, none when there is none.

        The annotation tells which to look at, the machine's own configuration decides.
        """
        doing = f"Look for the machine with marker {marker}"
        paths = {vim.VirtualMachine: ("name", "config.annotation")}
        candidates = self.reading(
            doing,
            lambda content: [
                target._moId
                for target, of in read_inventory(content, content.rootFolder, paths)
                if marker in of.get("config.annotation", "")
            ],
        )
        for moid in candidates:
            with contextlib.suppress(VmMissing):
                vm = self.get_vm(moid)
                if vm.marker == marker:
                    return vm
        return None

    def get_vm(self, moid: str) -> Vm:
        """Return a machine by its id.

        Raises:
            VmMissing: it is not there.
        """
        of = self.read_vm(moid, ("name", "runtime.powerState", "config.extraConfig"))
        extra = extra_config(of)
        return Vm(
            session=self,
            moid=moid,
            name=plain_name(of.get("name", "")),
            power_state=str(of.get("runtime.powerState", "")),
            marker=extra.get(MARKER_KEY),
            is_complete=extra.get(COMPLETE_KEY) == "true",
        )

    def read_vm(self, moid: str, paths: tuple[str, ...]) -> Properties:
        """Return properties of a machine; raise VmMissing when it is not there."""
        return self.reading(
            f"Read virtual machine {moid}",
            lambda content: read(content, vim.VirtualMachine(moid, self.stub), paths),
        )


def extra_config(of: Properties) -> dict[str, str]:
    """Return a machine's further configuration as a dictionary."""
    return {option.key: str(option.value) for option in of.get("config.extraConfig", ())}
