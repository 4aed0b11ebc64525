"""What can go wrong between Understudy and vSphere.

* VSphereError
    * ConnectionFailed
        * VSphereUnreachable
        * CertificateChanged
        * ThumbprintUnusable
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
    * AnswerUnknown
    * VmMissing
    * NotOurVm
    * SeveralVms
    * VmAsks
    * NoScreen
    * TookTooLong
    * VSphereFault

`code` is stable and shown to people; `docs/vsphere.md` says for each what it means and what to do.
"""


class VSphereError(Exception):
    """vSphere, or the way to it, failed."""

    code = "VSPHERE-ERROR"


class ConnectionFailed(VSphereError):
    """No session could be opened, or it was lost."""

    code = "VSPHERE-CONNECTION"


class VSphereUnreachable(ConnectionFailed):
    """Nothing answers at the address, or something other than vSphere; or the connection broke."""

    code = "VSPHERE-UNREACHABLE"


class CertificateChanged(ConnectionFailed):
    """The server's certificate is not the accepted one."""

    code = "VSPHERE-CERTIFICATE-CHANGED"


class ThumbprintUnusable(ConnectionFailed):
    """What a certificate is to be compared with is no thumbprint."""

    code = "VSPHERE-THUMBPRINT"


class WrongPassword(ConnectionFailed):
    """The user name or password was refused."""

    code = "VSPHERE-WRONG-PASSWORD"


class SessionLost(ConnectionFailed):
    """The session ended during something that cannot continue in another one."""

    code = "VSPHERE-SESSION-LOST"


class Refused(VSphereError):
    """vSphere refused; nothing was changed."""

    code = "VSPHERE-REFUSED"


class NoPermission(Refused):
    """The account lacks a privilege."""

    code = "VSPHERE-NO-PERMISSION"


class NameTaken(Refused):
    """Another virtual machine already has the name."""

    code = "VSPHERE-NAME-TAKEN"


class DatastoreFull(Refused):
    """The datastore does not have enough space."""

    code = "VSPHERE-DATASTORE-FULL"


class DatastoreUnusable(Refused):
    """The datastore is missing, inaccessible or in maintenance."""

    code = "VSPHERE-DATASTORE-UNUSABLE"


class PlacementMissing(Refused):
    """A chosen datacenter, pool, host, folder, datastore or network no longer exists."""

    code = "VSPHERE-PLACEMENT-MISSING"


class SpecRefused(Refused):
    """The requested hardware is not possible there."""

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
    """The virtual machine is on but must be off, or vice versa."""

    code = "VSPHERE-POWER-STATE"


class ImportFailed(VSphereError):
    """An import failed; unless the text says otherwise, everything it made was removed."""

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
    """The server's disks cannot be matched to the machine's, or one turned out wrong."""

    code = "VSPHERE-DISKS-UNMATCHED"


class AnswerUnknown(VSphereError):
    """The server answered with something that this version does not know."""

    code = "VSPHERE-ANSWER-UNKNOWN"


class VmMissing(VSphereError):
    """The virtual machine does not exist, or no longer does."""

    code = "VSPHERE-VM-MISSING"


class NotOurVm(VSphereError):
    """The virtual machine is not the one that the job made, or lost the job's marker."""

    code = "VSPHERE-NOT-OURS"


class SeveralVms(VSphereError):
    """Several virtual machines carry one job's marker, and nothing tells which is the job's."""

    code = "VSPHERE-SEVERAL-VMS"


class VmAsks(VSphereError):
    """The virtual machine asks a question that only a person can answer."""

    code = "VSPHERE-VM-ASKS"


class NoScreen(VSphereError):
    """The server does not show the machine's screen."""

    code = "VSPHERE-NO-SCREEN"


class TookTooLong(VSphereError):
    """Something did not happen within its limit."""

    code = "VSPHERE-TIMEOUT"


class VSphereFault(VSphereError):
    """Any other fault that vSphere reported."""

    code = "VSPHERE-FAULT"
