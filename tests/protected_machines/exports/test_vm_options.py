"""What vSphere allows of a VM's name and hardware."""

import uuid

import pytest

from console.jobs.models import Job
from protected_machines.errors import ExportRefused
from protected_machines.exports.options import MIB, VmOptions, check_vm, memory_mib_of
from protected_machines.exports.start import ExportOrder, start_export
from tests.factories import make_machine


def codes(name: str = "web-01", cpus: int = 2, memory_bytes: int = 512 * MIB) -> list[str]:
    return [finding.code for finding in check_vm(name, cpus, memory_bytes)]


def test_an_ordinary_vm_is_allowed() -> None:
    assert codes() == []


@pytest.mark.parametrize(
    ("name", "is_allowed"),
    [
        ("", False),
        ("x", True),
        ("x" * 80, True),
        ("x" * 81, False),
        ("a/b 50% é", True),
        ("a\nb", False),
        ("a\x1b[2J", False),
    ],
)
def test_a_name(name: str, is_allowed: bool) -> None:
    assert codes(name=name) == ([] if is_allowed else ["EXPORT-VM-NAME"])


@pytest.mark.parametrize(("cpus", "is_allowed"), [(0, False), (1, True), (768, True), (769, False)])
def test_cpus(cpus: int, is_allowed: bool) -> None:
    assert codes(cpus=cpus) == ([] if is_allowed else ["EXPORT-VM-CPUS"])


@pytest.mark.parametrize(
    ("memory_bytes", "is_allowed"),
    [
        (0, False),
        (3 * MIB, False),
        (4 * MIB, True),
        (6 * MIB, False),
        (4 * MIB + 1, False),
        (24 * 1024**2 * MIB, True),
        (24 * 1024**2 * MIB + 4 * MIB, False),
    ],
)
def test_memory(memory_bytes: int, is_allowed: bool) -> None:
    assert codes(memory_bytes=memory_bytes) == ([] if is_allowed else ["EXPORT-VM-MEMORY"])


@pytest.mark.parametrize(
    ("memory_bytes", "memory_mib"), [(0, 4), (2048 * MIB, 2048), (2047 * MIB + 5, 2044)]
)
def test_what_is_proposed_for_a_machine_is_allowed(memory_bytes: int, memory_mib: int) -> None:
    assert memory_mib_of(memory_bytes) == memory_mib
    assert codes(memory_bytes=memory_mib * MIB) == []


@pytest.mark.django_db
def test_an_export_of_a_point_that_is_not_here_is_refused_and_starts_nothing() -> None:
    options = VmOptions(uuid.uuid4(), "dc-1", "pool-1", "", "ds-1", "net-1", "web-01", 2, 64 * MIB)
    order = ExportOrder(make_machine().pk, uuid.uuid4(), options)
    with pytest.raises(ExportRefused, match="has no recovery point"):
        start_export(order, None)
    assert not Job.objects.exists()
