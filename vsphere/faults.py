"""Translates what pyvmomi raises into the errors of `errors.py`.

Each message says what was being done, what the server answered, and what to do next.
"""

import http.client
import ssl
from typing import Any

from agent.reasons import reason_of
from vsphere.api import vim, vmodl
from vsphere.errors import (
    AnswerUnknown,
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

# The first match counts, so subclasses come before their base classes.
FAULTS: tuple[tuple[Any, type[VSphereError], str], ...] = (
    (vim.fault.InvalidLogin, WrongPassword, "Check the user name and password of the vCenter."),
    (vim.fault.NotAuthenticated, SessionLost, "The session has ended. Try again."),
    (
        vim.fault.RestrictedVersion,
        LicenceRefused,
        "Assign a licence that includes the vSphere API.",
    ),
    (vim.fault.DuplicateName, NameTaken, "Choose another name, or remove the other machine."),
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
        "Choose a newer host.",
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
    (vim.fault.InvalidPowerState, WrongPowerState, "Power the machine on or off first."),
    (vim.fault.VmConfigFault, SpecRefused, "Change the hardware of the machine."),
    (vim.fault.Timedout, TookTooLong, "Try again. If it persists, check the host's load."),
    (vmodl.fault.ManagedObjectNotFound, PlacementMissing, "Choose again from what exists now."),
    (vmodl.fault.InvalidArgument, SpecRefused, "Change that setting."),
    (vmodl.fault.NotSupported, SpecRefused, "The server cannot do this. Choose another host."),
    (
        vim.fault.HostConnectFault,
        VSphereUnreachable,
        "Check the host in vCenter, then try again.",
    ),
    (
        vmodl.fault.HostCommunication,
        VSphereUnreachable,
        "Check the host in vCenter, then try again.",
    ),
)

# How a server answers a call that it does not know.
UNSUPPORTED = (vmodl.fault.MethodNotFound, vmodl.fault.NotImplemented, vmodl.fault.NotSupported)


class UnknownAnswer(Exception):
    """The server answered with something that this version of pyvmomi does not know."""


# Raised below pyvmomi and passed through; ssl.SSLError and time-outs are OSErrors.
BROKEN_CONNECTION = (OSError, http.client.HTTPException)
# All that a call can raise; see stub.py.
FAILED_CALL = (vmodl.MethodFault, UnknownAnswer, *BROKEN_CONNECTION)


def describe(fault: Any) -> str:
    """Return the fault's name and what the server said, in one line."""
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
    """Return our error for a fault; `doing` says what was being done, as in "Power on web-01"."""
    if isinstance(fault, VSphereError):
        return fault
    if isinstance(fault, vmodl.fault.ManagedObjectNotFound) and isinstance(
        fault.obj, vim.VirtualMachine
    ):
        return VmMissing(f"{doing}: virtual machine {fault.obj._moId} no longer exists.")
    if isinstance(fault, vim.fault.NoPermission) and not isinstance(
        fault, vim.fault.NotAuthenticated
    ):
        return NoPermission(
            f"{doing}: the account lacks {_privilege(fault)}. Grant it, with the others that the "
            "manual lists."
        )
    for kind, error, advice in FAULTS:
        if isinstance(fault, kind):
            return error(f"{doing}: {describe(fault)}. {advice}")
    if isinstance(fault, vmodl.MethodFault):
        return VSphereFault(f"{doing}: {describe(fault)}. See the task in the vSphere client.")
    if isinstance(fault, UnknownAnswer):
        return AnswerUnknown(
            f"{doing}: the server answered with something that this version of Understudy does "
            f"not know ({fault}). Look for a newer version of Understudy."
        )
    if isinstance(fault, ssl.SSLCertVerificationError):
        return VSphereUnreachable(
            f"{doing}: the server's certificate is not trusted ({fault.verify_message}). "
            "Accept its thumbprint, or configure the authority that signed it."
        )
    return VSphereUnreachable(
        f"{doing}: the connection failed ({reason_of(fault)}). Check address, port and network, "
        "then try again."
    )


def _privilege(fault: Any) -> str:
    """Return the missing privilege and the object that it is missing on."""
    name = f"the privilege {fault.privilegeId}" if fault.privilegeId else "a privilege"
    if fault.object is None:
        return name
    return f"{name} on {type(fault.object).__name__.rpartition('.')[2]} {fault.object._moId}"
