"""What can go wrong between Understudy and vSphere.

* VSphereError
    * ConnectionFailed
        * VSphereUnreachable
        * CertificateChanged
        * WrongPassword
        * SessionLost
    * Refused
        * NoPermission
        * NameTaken
        * DatastoreFull
        * DatastoreUnusable
        * PlacementMissing
        * SpecRefused
        * ResourcesMissing
        * LicenceRefused
        * VmBusy
        * WrongPowerState
    * ImportFailed
        * LeaseLost
        * UploadCut
        * UploadRefused
        * StreamLengthWrong
        * DigestDiffers
        * DisksUnmatched
    * VmMissing
    * NotOurVm
    * VmAsks
    * TookTooLong
    * VSphereFault

`code` is stable and shown to people; `docs/vsphere.md` says for each what it means and what to do.
"""


class VSphereError(Exception):
    """Anything that vSphere, or the way to it, did not do as asked."""

    code = "VSPHERE-ERROR"


class ConnectionFailed(VSphereError):
    """There is no session to work with."""

    code = "VSPHERE-CONNECTION"


class VSphereUnreachable(ConnectionFailed):
    """Nothing, or not a vSphere, answers at the address, or the connection broke."""

    code = "VSPHERE-UNREACHABLE"


class CertificateChanged(ConnectionFailed):
    """The server shows another certificate than the one that was accepted for it."""

    code = "VSPHERE-CERTIFICATE-CHANGED"


class WrongPassword(ConnectionFailed):
    """User name and password were refused."""

    code = "VSPHERE-WRONG-PASSWORD"


class SessionLost(ConnectionFailed):
    """The session ended in the middle of something that cannot go on in another one."""

    code = "VSPHERE-SESSION-LOST"


class Refused(VSphereError):
    """vSphere will not do it as things are; nothing was changed."""

    code = "VSPHERE-REFUSED"


class NoPermission(Refused):
    """The account lacks a privilege."""

    code = "VSPHERE-NO-PERMISSION"


class NameTaken(Refused):
    """Another virtual machine has the name already."""

    code = "VSPHERE-NAME-TAKEN"


class DatastoreFull(Refused):
    """The datastore has not the space."""

    code = "VSPHERE-DATASTORE-FULL"


class DatastoreUnusable(Refused):
    """The datastore is not there, not accessible or in maintenance."""

    code = "VSPHERE-DATASTORE-UNUSABLE"


class PlacementMissing(Refused):
    """A datacenter, pool, host, folder, datastore or network that was chosen is not there."""

    code = "VSPHERE-PLACEMENT-MISSING"


class SpecRefused(Refused):
    """The hardware asked for is not possible there."""

    code = "VSPHERE-SPEC-REFUSED"


class ResourcesMissing(Refused):
    """Not enough CPU, memory, failover capacity or licences to power on."""

    code = "VSPHERE-NO-RESOURCES"


class LicenceRefused(Refused):
    """The server's licence does not allow changes through the API."""

    code = "VSPHERE-LICENCE"


class VmBusy(Refused):
    """Another task holds the virtual machine."""

    code = "VSPHERE-VM-BUSY"


class WrongPowerState(Refused):
    """The virtual machine is on where it must be off, or the other way round."""

    code = "VSPHERE-POWER-STATE"


class ImportFailed(VSphereError):
    """An import ended early; what it had made was removed, unless the text says otherwise."""

    code = "VSPHERE-IMPORT"


class LeaseLost(ImportFailed):
    """The server ended the import lease."""

    code = "VSPHERE-LEASE-LOST"


class UploadCut(ImportFailed):
    """The connection broke while a disk was being sent."""

    code = "VSPHERE-UPLOAD-CUT"


class UploadRefused(ImportFailed):
    """The host answered an upload with an error."""

    status = 0  # of HTTP
    code = "VSPHERE-UPLOAD-REFUSED"


class StreamLengthWrong(ImportFailed):
    """A disk's stream was shorter or longer than announced."""

    code = "VSPHERE-STREAM-LENGTH"


class DigestDiffers(ImportFailed):
    """The host did not receive the bytes that were sent."""

    code = "VSPHERE-DIGEST-DIFFERS"


class DisksUnmatched(ImportFailed):
    """It cannot be told which of the server's disks is which of ours, or one came out wrong."""

    code = "VSPHERE-DISKS-UNMATCHED"


class VmMissing(VSphereError):
    """The virtual machine is not there (any more)."""

    code = "VSPHERE-VM-MISSING"


class NotOurVm(VSphereError):
    """The virtual machine does not bear the marker of who wants to remove it."""

    code = "VSPHERE-NOT-OURS"


class VmAsks(VSphereError):
    """The virtual machine waits for an answer that only a person can give."""

    code = "VSPHERE-VM-ASKS"


class TookTooLong(VSphereError):
    """Something did not happen within its limit."""

    code = "VSPHERE-TIMEOUT"


class VSphereFault(VSphereError):
    """vSphere answered with a fault that has no class of its own here."""

    code = "VSPHERE-FAULT"
