"""The findings about an export, and the virtual hardware that a point gets. Pure."""

from typing import Any

import pytest

from agent.client.description import MachineDescription
from console.findings import Finding
from protected_machines.choices import PointState
from protected_machines.exports.check import ExportFacts, check_point, choose_controller
from tests.factories import DESCRIPTION

FINGERPRINT = "ab" * 32


def facts(description: dict[str, Any] | None = None, **changes: Any) -> ExportFacts:
    values: dict[str, Any] = {
        "point_state": PointState.PROVEN,
        "damage_text": "",
        "description": MachineDescription.from_json({**DESCRIPTION, **(description or {})}),
        "fingerprints": [FINGERPRINT],
    }
    return ExportFacts(**{**values, **changes})


def codes(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.code, finding.severity) for finding in findings]


def test_a_proven_point_of_a_usual_machine_has_no_findings() -> None:
    assert check_point(facts()) == []


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (PointState.UNPROVEN, ("EXPORT-POINT-UNPROVEN", "warning")),
        (PointState.DAMAGED, ("EXPORT-POINT-DAMAGED", "error")),
    ],
)
def test_the_state_of_the_point_counts(state: str, expected: tuple[str, str]) -> None:
    findings = check_point(facts(point_state=state, damage_text="disk0.vmdk is missing"))
    assert codes(findings) == [expected]


@pytest.mark.parametrize(
    ("drivers", "controller"),
    [
        (["ahci", "vmw_pvscsi"], "pvscsi"),
        (["vmw-pvscsi"], "pvscsi"),
        (["ahci", "mptspi"], "lsilogic"),
        (["mptsas"], "lsilogicsas"),
        (["nvme"], "nvme"),
        (["ahci"], "sata"),
        (["virtio_scsi"], None),
        ([], None),
    ],
)
def test_the_controller_is_one_that_the_guest_starts_with(
    drivers: list[str], controller: str | None
) -> None:
    assert choose_controller(drivers) == controller


def test_a_guest_that_would_not_find_its_disk_is_refused() -> None:
    findings = check_point(facts({"initramfs_drivers": ["virtio_scsi"]}))
    assert codes(findings) == [("EXPORT-NO-DISK-DRIVER", "error")]


def test_a_slower_controller_is_a_warning() -> None:
    findings = check_point(facts({"initramfs_drivers": ["ahci"]}))
    assert codes(findings) == [("EXPORT-OTHER-CONTROLLER", "warning")]


def test_unknown_drivers_are_a_warning() -> None:
    findings = check_point(facts({"initramfs_drivers": []}))
    assert codes(findings) == [("EXPORT-DRIVERS-UNKNOWN", "warning")]


def test_efi_is_a_warning() -> None:
    findings = check_point(facts({"firmware": "efi"}))
    assert codes(findings) == [("EXPORT-EFI-BOOT-ENTRIES", "warning")]


def test_a_core_that_the_agent_does_not_trust_matters_only_when_it_must_answer() -> None:
    assert check_point(facts()) == []
    assert codes(check_point(facts(), needs_agent=True)) == [("EXPORT-CORE-NOT-TRUSTED", "error")]
    trusted = {"trusted_cores": [{"name": "DR site", "fingerprint": FINGERPRINT}]}
    assert check_point(facts(trusted), needs_agent=True) == []


def test_a_core_that_the_agent_trusts_may_have_delegated_the_machine() -> None:
    trusted = {"trusted_cores": [{"name": "Headquarters", "fingerprint": "cd" * 32}]}
    delegated = facts(trusted, fingerprints=[FINGERPRINT, "cd" * 32])
    assert check_point(delegated, needs_agent=True) == []


def test_errors_come_first() -> None:
    place = [Finding.warning("VSPHERE-SPACE-LOW", "…"), Finding.error("VSPHERE-NAME", "…")]
    findings = check_point(facts({"firmware": "efi"}), place)
    assert [finding.severity for finding in findings] == ["error", "warning", "warning"]
