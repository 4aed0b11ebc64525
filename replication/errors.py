"""Errors of replication.

- ReplicationError
    - PeerError
        - PeerUnreachable
        - PeerCertificateChanged
        - PeerRefusedSecret
        - PairingCodeRefused
        - PeerPausedReplication
        - PeerStoreFull
        - QuotaReached
        - PeerFaulty
    - OwnedElsewhere
    - OffsetMismatch
    - DamagedOnArrival
    - DamagedHere
    - PairingRefused
    - FailoverRefused
    - FailbackRefused
"""

from protected_machines.claims import OwnershipClaim


class ReplicationError(Exception):
    """Anything that replication refuses or cannot do. `code` is stable; `text` is for people."""

    code = "REPLICATION"

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class PeerError(ReplicationError):
    """A call to another core failed."""

    code = "REPLICATION-PEER"


class PeerUnreachable(PeerError):
    """Nobody answers at the peer's address, or the connection broke."""

    code = "REPLICATION-PEER-UNREACHABLE"


class PeerCertificateChanged(PeerError):
    """The core that answers does not have the certificate pinned at pairing."""

    code = "REPLICATION-PEER-CERTIFICATE"


class PeerRefusedSecret(PeerError):
    """The peer does not know this pairing, or expects a different secret."""

    code = "REPLICATION-PEER-SECRET"


class PairingCodeRefused(PeerError):
    """The two cores do not know the same one-time code, or it is no longer valid."""

    code = "REPLICATION-PAIRING-CODE"


class PeerPausedReplication(PeerError):
    """An administrator of the peer has paused this replication."""

    code = "REPLICATION-PEER-PAUSED"


class PeerStoreFull(PeerError):
    """The peer's store has no space for what is being sent."""

    code = "REPLICATION-PEER-STORE-FULL"


class QuotaReached(PeerError):
    """The source core may not fill more of the target core's store."""

    code = "REPLICATION-QUOTA-REACHED"


class PeerFaulty(PeerError):
    """The peer sent something that the interface does not allow."""

    code = "REPLICATION-PEER-FAULTY"


class OwnedElsewhere(ReplicationError):
    """The receiving core knows another owner of the machine, and says who, and since when."""

    code = "REPLICATION-OWNED-ELSEWHERE"

    def __init__(self, machine_name: str, claim: OwnershipClaim) -> None:
        super().__init__(
            f"{machine_name} has been owned by {claim.owner_core_name} since "
            f"{claim.owned_since:%Y-%m-%d %H:%M:%S} UTC (ownership epoch "
            f"{claim.ownership_epoch}), so this core must not act on it."
        )
        self.machine_name = machine_name
        self.claim = claim


class OffsetMismatch(ReplicationError):
    """The receiver holds more or less of a file than the sender assumed."""

    code = "REPLICATION-OFFSET"

    def __init__(self, file_name: str, offset_bytes: int) -> None:
        super().__init__(
            f"{file_name} has been received up to byte {offset_bytes}; continue there."
        )
        self.file_name = file_name
        self.offset_bytes = offset_bytes


class DamagedOnArrival(ReplicationError):
    """A file of a point does not match its digest after the transfer."""

    code = "REPLICATION-DAMAGED-ON-ARRIVAL"


class DamagedHere(ReplicationError):
    """A file of a point is damaged in this core's own store, so it cannot be replicated."""

    code = "REPLICATION-DAMAGED-HERE"


class PairingRefused(ReplicationError):
    """Two cores cannot be paired as asked."""

    code = "REPLICATION-PAIRING"


class FailoverRefused(ReplicationError):
    """A failover cannot start; the text says why."""

    code = "REPLICATION-FAILOVER"


class FailbackRefused(ReplicationError):
    """A failback cannot start or continue; the text says why. Has the code of the cause."""

    code = "REPLICATION-FAILBACK"

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code = code or type(self).code
