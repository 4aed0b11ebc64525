"""What can go wrong with a protected machine, each with a stable code.

- ProtectedMachinesError
  - NotTheOwner            another core owns the machine, so this one must not act on it
    - OwnershipDisputed    another core claims it without the owner's leave
    - OwnershipContradictory   what the machine is here contradicts its owner
  - ClaimNotSettled        who owns the machine could not be settled as asked
  - OwnerChanged           the owner or the epoch is not the one that the job acts by
  - MachineNotLive         the machine has no agent that this core may contact
  - AnnouncementRefused    who announces a machine is not its agent, or does so too often
  - DelegationWrong        what arrived as a delegation of the machine is not one to this core
  - PointNotFound          the recovery point is not in this core's store
  - PointForeign           another machine has a recovery point with that id
  - VmMissing              the VM that a job made is gone
  - ExportRefused          a finding prevents the export
  - NotARescueMachine      the machine there runs its own system, so nothing is written to it
  - SignInStopped          a vCenter refused the account, so nobody signs in until it is changed
  - PasswordUnreadable     a stored password cannot be decrypted with this core's secret key
"""


class ProtectedMachinesError(Exception):
    """Base of the errors of this package. `code` is stable and shown on pages."""

    code = "MACHINE-ERROR"


class NotTheOwner(ProtectedMachinesError):
    """Another core owns the machine. The text says which, since when, and with which epoch."""

    code = "MACHINE-NOT-OWNER"


class OwnershipDisputed(NotTheOwner):
    """Another core claims the machine without the leave of its owner, so nobody may act on it."""

    code = "MACHINE-OWNERSHIP-DISPUTED"


class OwnershipContradictory(NotTheOwner):
    """This core owns a mere copy, or another core owns what runs here, so nobody protects it."""

    code = "MACHINE-OWNERSHIP-CONTRADICTORY"


class ClaimNotSettled(ProtectedMachinesError):
    """Who owns the machine could not be settled as asked; nothing was changed."""

    code = "MACHINE-CLAIM-NOT-SETTLED"


class OwnerChanged(ProtectedMachinesError):
    """The machine's owner or ownership epoch is not the one by which a job may touch its VM."""

    code = "MACHINE-OWNER-CHANGED"

    def __init__(
        self, machine_name: str, owner_core_name: str, epoch: int, expected_epoch: int
    ) -> None:
        super().__init__(
            f"{owner_core_name} owns {machine_name} now, with ownership epoch {epoch}; this job "
            f"acts by epoch {expected_epoch}. Its VM was not touched. Find out where "
            f"{machine_name} really runs. If it is not to run here, power off the VM by hand, then "
            "close the job."
        )


class MachineNotLive(ProtectedMachinesError):
    """This core holds only copies of the machine, so there is no agent to contact."""

    code = "MACHINE-NOT-LIVE"


class AnnouncementRefused(ProtectedMachinesError):
    """Who announces a machine is not the agent that was paired, or announces it too often."""

    code = "MACHINE-ANNOUNCEMENT-REFUSED"


class DelegationWrong(ProtectedMachinesError):
    """What came as a delegation of the machine is not its owner's, or not for this core."""

    code = "MACHINE-DELEGATION-WRONG"


class PointNotFound(ProtectedMachinesError):
    """The recovery point is not in this core's store."""

    code = "MACHINE-POINT-NOT-FOUND"


class PointForeign(ProtectedMachinesError):
    """Another machine of this core has a recovery point with that id; it is left alone."""

    code = "MACHINE-POINT-FOREIGN"


class VmMissing(ProtectedMachinesError):
    """The VM that a job made is no longer in vSphere."""

    code = "MACHINE-VM-MISSING"


class ExportRefused(ProtectedMachinesError):
    """The export may not start; the text is that of the first error found."""

    code = "EXPORT-REFUSED"


class SignInStopped(ProtectedMachinesError):
    """The vCenter refused the account. Another try could lock it, so there is none for now."""

    code = "MACHINE-VCENTER-SIGN-IN-STOPPED"


class PasswordUnreadable(ProtectedMachinesError):
    """A stored password was encrypted with another secret key."""

    code = "MACHINE-PASSWORD-UNREADABLE"


class NotARescueMachine(ProtectedMachinesError):
    """The machine at the address does not run the rescue medium."""

    code = "RESTORE-NOT-A-RESCUE-MACHINE"
