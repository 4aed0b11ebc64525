"""What this package keeps in the database, a file for each object."""

from protected_machines.models.announcements import Announcement, TypedAddress
from protected_machines.models.delegations import Delegation
from protected_machines.models.machines import Machine, MachineQuerySet
from protected_machines.models.points import RecoveryPoint, RecoveryPointQuerySet
from protected_machines.models.restore_targets import RestoreTarget
from protected_machines.models.vcenters import VCenter

__all__ = [
    "Announcement",
    "Delegation",
    "Machine",
    "MachineQuerySet",
    "RecoveryPoint",
    "RecoveryPointQuerySet",
    "RestoreTarget",
    "TypedAddress",
    "VCenter",
]
