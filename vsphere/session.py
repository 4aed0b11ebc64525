"""A session with a vSphere: the face of this package."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vsphere import machine, screen, vm_import
from vsphere import placement as placements
from vsphere.calls import Calls
from vsphere.door import Credentials, Door, Gate
from vsphere.errors import VSphereError
from vsphere.faults import FAILED_CALL
from vsphere.inventory import Inventory, read_all
from vsphere.machine import Vm, VmIdentity
from vsphere.placement import PlacementFinding
from vsphere.spec import DiskUpload, Placement, VmSpace, VmSpec
from vsphere.upload import OwnLine, UploadLine
from vsphere.vm_import import ProgressReport

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class About:
    """The product and version that answered."""

    name: str
    version: str
    build: str
    api_version: str
    is_vcenter: bool


class Session:
    """Everything a caller can read or change while signed in."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls

    def about(self) -> About:
        """Return product and version."""
        of = self.calls.content.about
        return About(
            name=of.fullName,
            version=of.version,
            build=of.build,
            api_version=of.apiVersion,
            is_vcenter=of.apiType == "VirtualCenter",
        )

    def inventory(self, *, with_virtual_machines: bool = False) -> Inventory:
        """Read the inventory, the virtual machines only on request."""
        return self.calls.reading(
            "Read the inventory",
            lambda content: read_all(content, with_virtual_machines=with_virtual_machines),
        )

    def check_placement(
        self, placement: Placement, vm_name: str, space: VmSpace
    ) -> list[PlacementFinding]:
        """Return the problems with making `vm_name` there, which takes that space, if any."""
        return self.calls.reading(
            f"Check the placement of {vm_name}",
            lambda content: placements.check(content, placement, vm_name, space),
        )

    def disk_step_bytes(self, datastore: str) -> int:
        """Return what the size of each disk on a datastore, by its id, has to be a multiple of."""
        return self.calls.reading(
            f"Read the datastore {datastore}",
            lambda content: placements.disk_step_bytes(content, datastore),
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
        line: UploadLine | None = None,
        note: Callable[[str], None] = lambda text: None,
    ) -> str:
        """Make a machine, powered off, from streamOptimized disks; return its id.

        `marker` is stored in the machine and must be unique; removing the machine requires it.
        `progress(done_bytes, total_bytes)` and `check_cancel()` are called in the calling thread;
        whatever `check_cancel` raises ends the import. `line` is that of all imports that send to
        the same hosts. `note` is told what people should know meanwhile.

        On any failure the import is aborted and everything it made is removed before the error
        is raised.

        Raises:
            NameTaken, DatastoreFull, PlacementMissing, SpecRefused, NoPermission: refused.
            LeaseLost, UploadCut, UploadRefused, StreamLengthWrong, DigestDiffers, SessionLost:
                the import ended early.
        """
        return vm_import.import_vm(
            self.calls,
            spec,
            disks,
            placement,
            marker,
            progress,
            check_cancel,
            line or OwnLine(),
            note,
        )

    def find_vm(self, marker: str, identity: VmIdentity | None = None) -> Vm | None:
        """Return the machine with the marker, or none; once its identity is known, only that one.

        Raises:
            SeveralVms: its identity is not known, and several machines have the marker.
            NotOurVm: the machine is there, but has another marker or another identity.
        """
        return machine.find_vm(self.calls, marker, identity)

    def find_marked_vms(self, prefix: str) -> list[Vm]:
        """Return the machines whose marker begins like that."""
        return list(machine.find_marked_vms(self.calls, prefix))

    def take_screenshot(self, moid: str) -> bytes:
        """Return the screen of a machine that is on, as PNG.

        Raises:
            NoScreen: the server shows none.
        """
        return screen.take_screenshot(self.calls, moid)

    def get_vm(self, moid: str) -> Vm:
        """Return a machine by its id.

        Raises:
            VmMissing: it does not exist.
        """
        return machine.get_vm(self.calls, moid)


def sign_in(
    credentials: Credentials,
    timeout_seconds: float = 30,
    gate: Gate = contextlib.nullcontext,
) -> Session:
    """Sign in. The caller has to sign out; `connect` and `SharedSessions` do."""
    calls = Calls(Door(credentials, timeout_seconds, gate))
    log.info("vsphere signed in host=%s user=%s", credentials.address, credentials.username)
    return Session(calls)


@contextlib.contextmanager
def connect(credentials: Credentials, timeout_seconds: float = 30) -> Iterator[Session]:
    """Sign in for the length of a `with` block; always sign out at its end.

    Raises:
        VSphereUnreachable: nothing answers, or something other than vSphere.
        CertificateChanged: the certificate does not match the thumbprint.
        WrongPassword: the user or the password is wrong.
    """
    session = sign_in(credentials, timeout_seconds)
    try:
        yield session
    finally:
        with contextlib.suppress(VSphereError, *FAILED_CALL):
            session.calls.sign_out()
