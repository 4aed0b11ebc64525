"""What replication keeps in the database, a file for each object."""

from replication.models.failbacks import Failback, FailbackMachine
from replication.models.failovers import Failover, FailoverMachine
from replication.models.fellows import FellowCore
from replication.models.machines import ReplicatedMachine, ReplicatedMachineQuerySet
from replication.models.objectives import RecoveryObjective
from replication.models.pairing_codes import PairingCode, PairingCodeQuerySet
from replication.models.pairings import Pairing, PairingQuerySet
from replication.models.seed_drives import SeedDrive, SeedDriveQuerySet
from replication.models.status_days import StatusDay

__all__ = [
    "Failback",
    "FailbackMachine",
    "Failover",
    "FailoverMachine",
    "FellowCore",
    "Pairing",
    "PairingCode",
    "PairingCodeQuerySet",
    "PairingQuerySet",
    "RecoveryObjective",
    "ReplicatedMachine",
    "ReplicatedMachineQuerySet",
    "SeedDrive",
    "SeedDriveQuerySet",
    "StatusDay",
]
