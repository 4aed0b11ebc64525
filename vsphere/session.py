"""One session with a vSphere: what callers of this package work with."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vsphere import machine, vm_import
from vsphere import placement as placements
from vsphere.api import vmodl
from vsphere.calls import Calls
from vsphere.door import Credentials, Door
from vsphere.errors import VSphereError
from vsphere.faults import BROKEN_CONNECTION
from vsphere.inventory import Inventory, read_all
from vsphere.machine import Vm
from vsphere.placement import PlacementFinding
from vsphere.spec import DiskUpload, Placement, VmSpec
from vsphere.vm_import import ProgressReport

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class About:
    """What answers at the address."""

    name: str
    version: str
    build: str
    api_version: str
    is_vcenter: bool


class Session:
    """What can be asked of a vSphere, and done there, while signed in."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls

    def about(self) -> About:
        """Tell what this vSphere is."""
        of = self.calls.content.about
        return About(
            name=of.fullName,
            version=of.version,
            build=of.build,
            api_version=of.apiVersion,
            is_vcenter=of.apiType == "VirtualCenter",
        )

    def inventory(self, *, with_virtual_machines: bool = False) -> Inventory:
        """Read the inventory; the virtual machines only if wanted."""
        return self.calls.reading(
            "Read the inventory",
            lambda content: read_all(content, with_virtual_machines=with_virtual_machines),
        )

    def check_placement(
        self, placement: Placement, vm_name: str, needed_bytes: int
    ) -> list[PlacementFinding]:
        """Return what speaks against making `vm_name` there; an empty list if nothing does."""
        return self.calls.reading(
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
        return vm_import.import_vm(
            self.calls, spec, disks, placement, marker, progress, check_cancel, parallel_uploads
        )

    def find_vm_by_marker(self, marker: str) -> Vm | None:
        """Return the machine that was made with `marker`, none when there is none."""
        return machine.find_vm_by_marker(self.calls, marker)

    def get_vm(self, moid: str) -> Vm:
        """Return a machine by its id.

        Raises:
            VmMissing: it is not there.
        """
        return machine.get_vm(self.calls, moid)


@contextlib.contextmanager
def connect(credentials: Credentials, timeout_seconds: float = 30) -> Iterator[Session]:
    """Sign in for the length of a `with` block; sign out at its end, whatever happens in it.

    Raises:
        VSphereUnreachable: nothing answers, or no vSphere.
        CertificateChanged: the certificate is not the one with the thumbprint.
        WrongPassword: the user or the password is wrong.
    """
    calls = Calls(Door(credentials, timeout_seconds))
    log.info("vsphere signed in host=%s user=%s", credentials.address, credentials.username)
    try:
        yield Session(calls)
    finally:
        with contextlib.suppress(VSphereError, vmodl.MethodFault, *BROKEN_CONNECTION):
            calls.sign_out()
