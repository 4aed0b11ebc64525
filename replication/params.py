"""The parameters of this package's jobs: ids and choices only."""

from dataclasses import dataclass
from uuid import UUID

from protected_machines.exports.plan import VmOptions


@dataclass(frozen=True)
class ReplicateParams:
    """What is to be sent."""

    # The machine on the pairing whose target lacks points.
    replicated_machine_id: UUID


@dataclass(frozen=True)
class SeedDriveParams:
    """Which machine's points are copied, and where to."""

    replicated_machine_id: UUID
    # The seed drive's folder, by its path on this core.
    folder: str


@dataclass(frozen=True)
class FailoverParams:
    """What one machine's failover was asked to do."""

    failover_id: UUID
    pairing_id: UUID
    # The recovery point that the machine goes on from.
    point_id: UUID
    # Where the VM goes, and its name, memory and CPUs.
    options: VmOptions


@dataclass(frozen=True)
class FailbackParams:
    """What one machine's failback was asked to do."""

    failback_id: UUID
    # The row that says how far this machine's failback has come.
    entry_id: UUID
    pairing_id: UUID
    # The rescue machine, by the source core's id of it.
    target_id: UUID


@dataclass(frozen=True)
class FailbackEndParams:
    """Which machine's failback is to be committed or rolled back."""

    failback_id: UUID
    entry_id: UUID
    pairing_id: UUID
