"""What vSphere allows of a VM's name and hardware."""

import pytest

from protected_machines.exports.options import MIB, check_vm, memory_mib_of


def codes(name: str = "web-01", cpus: int = 2, memory_bytes: int = 512 * MIB) -> list[str]:
    return [finding.code for finding in check_vm(name, cpus, memory_bytes)]


def test_an_ordinary_vm_is_allowed() -> None:
    assert codes() == []


@pytest.mark.parametrize(
    ("name", "is_allowed"), [("", False), ("x", True), ("x" * 80, True), ("x" * 81, False)]
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
