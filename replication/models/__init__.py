"""What replication keeps in the database, a file for each object."""

from replication.models.failbacks import Failback, FailbackMachine
from replication.models.failovers import Failover, FailoverMachine
from replication.models.machines import ReplicatedMachine, ReplicatedMachineQuerySet
from replication.models.pairings import Pairing, PairingQuerySet
from replication.models.seed_drives import SeedDrive, SeedDriveQuerySet

__all__ = [
    "Failback",
    "FailbackMachine",
    "Failover",
    "FailoverMachine",
    "Pairing",
    "PairingQuerySet",
    "ReplicatedMachine",
    "ReplicatedMachineQuerySet",
    "SeedDrive",
    "SeedDriveQuerySet",
]
