"""What can go wrong in a store or in a VMDK, as one tree.

    StoreError
        VmdkError
            VmdkLimit           the format cannot hold it
            VmdkDamaged         a file is not what it says it is
            StreamRefused       a stream that arrives lies about itself
        SourceUnreadable        a disk image or device cannot be read
        StoreUnusable           the store's folder cannot be read or written
        StoreBusy               somebody else writes there now
        StoreFull               no space, or the reserve would be touched
        MachineMissing          the store holds no such machine, or several of that name
        PointMissing            the store holds no such recovery point
        DiskMissing             the point holds no such disk
        PointExists             a point of that id is there already
        PointInUse              other points need this one
        PointUnrelated          a point is not among those that another one is made of
        ParentUnfit             the parent is missing, or cannot be this point's parent
        ManifestDamaged         a manifest is missing, unreadable or not what its digest says
        ChainFault              a point cannot be used; has the points that can
            ChainBroken         an ancestor or a file of it is missing, or of another length
            ChainDamaged        a file of the chain is damaged inside
        ReplicaRefused          what a peer sends does not fit
            OffsetDiffers       bytes for another place than the next one
            ReplicaDamaged      what arrived differs from its digest

Every class has a stable `code`, which pages show and the manual explains.
This module runs on a protected machine too, with any Python from 3.9 on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class StoreError(Exception):
    """Any fault of this package; `code` stays the same for ever, the text says what to do."""

    code = "STORE-FAULT"


class VmdkError(StoreError):
    code = "VMDK-FAULT"


class VmdkLimit(VmdkError):
    code = "VMDK-LIMIT"


class VmdkDamaged(VmdkError):
    code = "VMDK-DAMAGED"


class StreamRefused(VmdkError):
    code = "VMDK-STREAM-REFUSED"


class SourceUnreadable(StoreError):
    code = "STORE-SOURCE-UNREADABLE"


class StoreUnusable(StoreError):
    code = "STORE-UNUSABLE"


class StoreBusy(StoreError):
    code = "STORE-BUSY"


class StoreFull(StoreError):
    code = "STORE-FULL"


class MachineMissing(StoreError):
    code = "STORE-MACHINE-MISSING"


class PointMissing(StoreError):
    code = "STORE-POINT-MISSING"


class DiskMissing(StoreError):
    code = "STORE-DISK-MISSING"


class PointExists(StoreError):
    code = "STORE-POINT-EXISTS"


class PointInUse(StoreError):
    code = "STORE-POINT-IN-USE"


class PointUnrelated(StoreError):
    code = "STORE-POINT-UNRELATED"


class ParentUnfit(StoreError):
    code = "STORE-PARENT-UNFIT"


class ManifestDamaged(StoreError):
    code = "STORE-MANIFEST-DAMAGED"


class ChainFault(StoreError):
    """A point cannot be used: why, and which of the machine's points can."""

    def __init__(
        self, text: str, findings: Sequence[Any] = (), good_point_ids: Sequence[str] = ()
    ) -> None:
        super().__init__(text)
        self.findings = tuple(findings)
        self.good_point_ids = tuple(good_point_ids)


class ChainBroken(ChainFault):
    code = "STORE-CHAIN-BROKEN"


class ChainDamaged(ChainFault):
    code = "STORE-CHAIN-DAMAGED"


class ReplicaRefused(StoreError):
    code = "STORE-REPLICA-REFUSED"


class OffsetDiffers(ReplicaRefused):
    """Raised with the offset at which the next bytes are expected."""

    code = "STORE-REPLICA-OFFSET"

    def __init__(self, text: str, expected_bytes: int) -> None:
        super().__init__(text)
        self.expected_bytes = expected_bytes


class ReplicaDamaged(ReplicaRefused):
    code = "STORE-REPLICA-DAMAGED"
