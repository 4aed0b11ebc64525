"""Codes are stable, and the manual explains each."""

from pathlib import Path

import pytest

from vsphere import errors
from vsphere.api import vim, vmodl
from vsphere.errors import (
    DatastoreFull,
    NameTaken,
    SpecRefused,
    VmMissing,
    VSphereError,
    VSphereFault,
    VSphereUnreachable,
)
from vsphere.faults import FAULTS, translate

MANUAL = Path(__file__).resolve().parents[2] / "docs" / "vsphere.md"
ALL = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, VSphereError)
]


def test_codes_never_change() -> None:
    assert sorted(error.code for error in ALL) == [
        "VSPHERE-ANSWER-UNKNOWN",
        "VSPHERE-CERTIFICATE-CHANGED",
        "VSPHERE-CONNECTION",
        "VSPHERE-DATASTORE-FULL",
        "VSPHERE-DATASTORE-UNUSABLE",
        "VSPHERE-DIGEST-DIFFERS",
        "VSPHERE-DISKS-UNMATCHED",
        "VSPHERE-ERROR",
        "VSPHERE-FAULT",
        "VSPHERE-IMPORT",
        "VSPHERE-LEASE-LOST",
        "VSPHERE-LICENCE",
        "VSPHERE-NAME-TAKEN",
        "VSPHERE-NO-PERMISSION",
        "VSPHERE-NO-RESOURCES",
        "VSPHERE-NO-SCREEN",
        "VSPHERE-NOT-OURS",
        "VSPHERE-PLACEMENT-MISSING",
        "VSPHERE-POWER-STATE",
        "VSPHERE-REFUSED",
        "VSPHERE-SESSION-LOST",
        "VSPHERE-SEVERAL-VMS",
        "VSPHERE-SPEC-REFUSED",
        "VSPHERE-STREAM-LENGTH",
        "VSPHERE-THUMBPRINT",
        "VSPHERE-TIMEOUT",
        "VSPHERE-UNREACHABLE",
        "VSPHERE-UPLOAD-CUT",
        "VSPHERE-UPLOAD-REFUSED",
        "VSPHERE-VM-ASKS",
        "VSPHERE-VM-BUSY",
        "VSPHERE-VM-MISSING",
        "VSPHERE-WRONG-PASSWORD",
    ]


@pytest.mark.parametrize("error", ALL)
def test_the_manual_explains_every_code(error: type[VSphereError]) -> None:
    assert error.code in MANUAL.read_text()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (vim.fault.DuplicateName(name="web-01"), NameTaken),
        (vim.fault.NoDiskSpace(datastore="ds"), DatastoreFull),
        (vim.fault.InvalidDeviceBacking(property="device.backing"), SpecRefused),
        (vmodl.fault.ManagedObjectNotFound(obj=vim.VirtualMachine("vm-1")), VmMissing),
        (vim.fault.CustomizationPending(), VSphereFault),
        (ConnectionResetError("reset by peer"), VSphereUnreachable),
        (TimeoutError(), VSphereUnreachable),
    ],
)
def test_a_fault_becomes_an_error_that_says_what_and_what_next(
    fault: BaseException, error: type[VSphereError]
) -> None:
    made = translate(fault, "Do something to web-01")
    assert type(made) is error
    assert str(made).startswith("Do something to web-01: ")
    assert str(made).endswith(".")


def test_special_faults_come_before_what_they_are_a_kind_of() -> None:
    kinds = [kind for kind, _, _ in FAULTS]
    for place, kind in enumerate(kinds):
        assert not any(issubclass(kind, earlier) for earlier in kinds[:place]), kind
