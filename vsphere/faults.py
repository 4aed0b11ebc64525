"""Turns what pyvmomi raises into the errors of `errors.py`.

Each text says what was being done, what the server said, and what to do next.
"""

import http.client
import ssl
from typing import Any
from xml.parsers.expat import ExpatError

from vsphere.api import vim, vmodl
from vsphere.errors import (
    DatastoreFull,
    DatastoreUnusable,
    LicenceRefused,
    NameTaken,
    NoPermission,
    PlacementMissing,
    ResourcesMissing,
    SessionLost,
    SpecRefused,
    TookTooLong,
    VmBusy,
    VmMissing,
    VSphereError,
    VSphereFault,
    VSphereUnreachable,
    WrongPassword,
    WrongPowerState,
)

# The first match counts, so what is special comes before what it is a kind of.
FAULTS: tuple[tuple[Any, type[VSphereError], str], ...] = (
    (vim.fault.InvalidLogin, WrongPassword, "Check user name and password of the vCenter."),
    (vim.fault.NotAuthenticated, SessionLost, "The session has ended; try again."),
    (
        vim.fault.NoPermission,
        NoPermission,
        "Give the account the privileges listed in the manual, on this object.",
    ),
    (
        vim.fault.RestrictedVersion,
        LicenceRefused,
        "Assign a licence that includes the vSphere API.",
    ),
    (vim.fault.DuplicateName, NameTaken, "Choose another name, or remove that machine yourself."),
    (vim.fault.InvalidName, SpecRefused, "Choose a name of 1 to 80 characters."),
    (vim.fault.NoDiskSpace, DatastoreFull, "Free space on the datastore, or choose another."),
    (vim.fault.InsufficientDisks, DatastoreFull, "Free space on the datastore, or choose another."),
    (
        vim.fault.InvalidDatastore,
        DatastoreUnusable,
        "Choose a datastore that the host can write to.",
    ),
    (vim.fault.FileNotFound, DatastoreUnusable, "Choose a datastore that the host can write to."),
    (
        vim.fault.VirtualHardwareVersionNotSupported,
        SpecRefused,
        "Choose a host of a newer version.",
    ),
    (
        vim.fault.InvalidDeviceSpec,
        SpecRefused,
        "Change the hardware or the network of the machine.",
    ),
    (
        vim.fault.InsufficientResourcesFault,
        ResourcesMissing,
        "Free resources, or choose another host or pool.",
    ),
    (vmodl.fault.NotEnoughLicenses, ResourcesMissing, "Add a licence for the host."),
    (vim.fault.TaskInProgress, VmBusy, "Wait for the other task, then try again."),
    (vim.fault.FileLocked, VmBusy, "Find out who holds the machine's files, then try again."),
    (vim.fault.InvalidPowerState, WrongPowerState, "Bring the machine to the other power state."),
    (vim.fault.VmConfigFault, SpecRefused, "Change the hardware of the machine."),
    (vim.fault.Timedout, TookTooLong, "Try again; if it stays so, look at the host's load."),
    (vmodl.fault.ManagedObjectNotFound, PlacementMissing, "Choose again from what is there now."),
    (vmodl.fault.InvalidArgument, SpecRefused, "Change what was chosen there."),
    (vmodl.fault.NotSupported, SpecRefused, "The server cannot do this; choose another host."),
    (
        vim.fault.HostConnectFault,
        VSphereUnreachable,
        "Look at the host in vCenter, then try again.",
    ),
    (vmodl.fault.HostCommunication, VSphereUnreachable, "Look at the host in vCenter; try again."),
)

# How servers say that they do not know a call.
UNSUPPORTED = (vmodl.fault.MethodNotFound, vmodl.fault.NotImplemented, vmodl.fault.NotSupported)

# What pyvmomi lets through from below; ssl.SSLError and time-outs are kinds of OSError.
BROKEN_CONNECTION = (OSError, http.client.HTTPException, ExpatError)


def describe(fault: Any) -> str:
    """Return what the server said, in one line, beginning with the fault's own name."""
    name = type(fault).__name__.rpartition(".")[2]
    said = getattr(fault, "msg", None) or ""
    for message in getattr(fault, "faultMessage", None) or []:
        said = said or message.message or ""
    parts = [name]
    if said and said != name:
        parts.append(said.strip().rstrip("."))
    for field in ("property", "invalidProperty", "name", "datastore", "privilegeId", "text"):
        value = getattr(fault, field, None)
        if isinstance(value, str) and value and value not in said:
            parts.append(f"{field} {value}")
        elif isinstance(value, vim.Datastore):
            parts.append(f"datastore {value._moId}")
    return ": ".join(parts[:2]) + "".join(f", {part}" for part in parts[2:])


def translate(fault: BaseException, doing: str) -> VSphereError:
    """Return our error for what was raised while `doing` (a text like "Power on web-01")."""
    if isinstance(fault, VSphereError):
        return fault
    if isinstance(fault, vmodl.fault.ManagedObjectNotFound) and isinstance(
        fault.obj, vim.VirtualMachine
    ):
        return VmMissing(f"{doing}: virtual machine {fault.obj._moId} is not there any more.")
    for kind, error, advice in FAULTS:
        if isinstance(fault, kind):
            return error(f"{doing}: {describe(fault)}. {advice}")
    if isinstance(fault, vmodl.MethodFault):
        return VSphereFault(f"{doing}: {describe(fault)}. See the task in the vSphere client.")
    if isinstance(fault, ssl.SSLCertVerificationError):
        return VSphereUnreachable(
            f"{doing}: the server's certificate is not trusted ({fault.verify_message}). "
            "Accept its thumbprint, or name the authority that signed it."
        )
    reason = str(fault) or type(fault).__name__
    return VSphereUnreachable(
        f"{doing}: the connection failed ({reason}). Check address, port and network; then try "
        "again."
    )
