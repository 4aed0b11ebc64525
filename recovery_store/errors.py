"""What can go wrong in a store or in a VMDK, as one tree.

    StoreError
        VmdkError
            VmdkLimit           the format cannot hold it
            VmdkDamaged         a file is not what it says it is
            StreamRefused       an incoming stream contradicts itself
        SourceUnreadable        a disk image or device cannot be read
        StoreUnusable           the store's folder cannot be read or written
        StoreMissing            the folder is not the store that it should be
        StoreBusy               another process is writing there now
        StoreFull               no space left, apart from the reserve
        MachineMissing          the store has no such machine, or several with that name
        PointMissing            the store has no such recovery point
        DiskMissing             the point has no such disk
        PointExists             a point with that id already exists
        PointInUse              other points need this one
        PointUnrelated          a point is not in the chain of another one
        ParentUnfit             the parent is missing, or cannot be the parent of this point
        ManifestDamaged         a manifest is missing, unreadable or not what its digest says
        ChainFault              a point cannot be used; lists the points that can
            ChainBroken         an ancestor or one of its files is missing or has the wrong length
            ChainDamaged        a file of the chain is damaged inside
        ReplicaRefused          what a peer sends does not match its manifest
            OffsetDiffers       the bytes are not the next ones
            ReplicaDamaged      what arrived differs from its digest

Every class has a stable `code`, which pages show and the manual explains.
This module also runs on protected machines, with Python 3.9 or later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class StoreError(Exception):
    """Any error of this package; `code` never changes, the text says what to do."""

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


class StoreMissing(StoreError):
    code = "STORE-MISSING"


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
    """A point cannot be used: says why, and which of the machine's points can."""

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
