"""How the audit log names this room's acts and objects."""

from console.audit.acts import ObjectKind, register_acts, register_objects
from protected_machines.models import Machine, VCenter


def register() -> None:
    """Name every URL that changes something, every command, and what URLs are about."""
    register_acts(
        {
            "protected_machines:machine-protect": "Protect a machine",
            "protected_machines:import-start": "Import an archive",
            "protected_machines:machine-pause": "Pause protection",
            "protected_machines:machine-resume": "Resume protection",
            "protected_machines:machine-find": "Protect a machine where it announced itself",
            "protected_machines:owner-settle": "Settle the owner of a machine",
            "protected_machines:machine-schedule": "Change the snapshot schedule",
            "protected_machines:snapshot-force": "Force a snapshot",
            "protected_machines:export-start": "Export a machine",
            "protected_machines:archive-start": "Archive a machine",
            "protected_machines:restore-start": "Restore a machine",
            "protected_machines:job-address": "Have a job look for its machine at an address",
            "protected_machines:vcenter-add": "Add a vCenter",
            "protected_machines:vcenter-check": "Test the connection of a vCenter",
            "protected_machines:vcenter-password": "Change the account of a vCenter",
            "protected_machines:vcenter-remove": "Remove a vCenter",
            "ownership:taken": "Change the owner of a machine",
            "ownership:heard": "Hear of another owner of a machine",
            "ownership:disputed": "Dispute the owner of a machine",
            "ownership:settled": "Settle the owner of a machine: the result",
            "manage.py:accept_claim": "Accept a claim, from the shell",
            "manage.py:add_vcenter": "Add a vCenter, from the shell",
            "manage.py:adopt_store": "Adopt a store, from the shell",
            "manage.py:claim_machine": "Claim a machine, from the shell",
            "manage.py:protect_machine": "Protect a machine, from the shell",
            "manage.py:withdraw_delegations": "Withdraw delegations, from the shell",
        }
    )
    register_objects(
        {
            "machine_id": ObjectKind("machine", Machine, "name", "protected_machines:machine"),
            "vcenter_id": ObjectKind("vcenter", VCenter, "name"),
        }
    )
