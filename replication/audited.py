"""How the audit log names this room's acts and objects."""

from console.audit.acts import ObjectKind, register_acts, register_objects
from replication.models import (
    Failback,
    FailbackMachine,
    Failover,
    Pairing,
    ReplicatedMachine,
    SeedDrive,
)


def register() -> None:
    """Name every URL that changes something, every command, and what URLs are about."""
    register_acts(
        {
            "replication:target-core-add": "Add a target core",
            "replication:source-core-add": "Add a source core",
            "replication:pairing-code-make": "Make a pairing code",
            "replication:pairing-settings": "Change the settings of a core",
            "replication:pairing-machines-add": "Replicate machines to a core",
            "replication:pairing-seed-drive": "Copy machines to a seed drive",
            "replication:pairing-consume": "Consume a seed drive",
            "replication:pairing-pause": "Pause replication with a core",
            "replication:pairing-resume": "Resume replication with a core",
            "replication:pairing-force": "Force replication with a core",
            "replication:pairing-fail-over": "Fail over machines",
            "replication:pairing-failback": "Fail back machines",
            "replication:machine-pause": "Pause replication of a machine",
            "replication:machine-resume": "Resume replication of a machine",
            "replication:machine-force": "Force replication of a machine",
            "replication:machine-fail-over": "Fail over a machine",
            "replication:machine-failback": "Fail back a machine",
            "replication:machine-seed-drive": "Copy a machine to a seed drive",
            "replication:seed-drive-abandon": "Abandon a seed drive",
            "replication:protected-machine-replicate": "Replicate a machine",
            "replication:failover-cancel": "Cancel the failover of a machine",
            "replication:failover-retry": "Retry the failover of a machine",
            "replication:failback-commit": "Commit a failback",
            "replication:failback-roll-back": "Roll back a failback",
            "replication:failback-cancel": "Cancel the failback of a machine",
            "replication:failback-retry": "Retry the failback of a machine",
            "status:core-objectives": "Change the recovery objectives of a core",
            "status:machine-objectives": "Change the recovery objectives of a machine",
            "core-interface:pair": "Pair with this core, by its code",
            "core-interface:survey_rescue_machine": "Pair with a rescue machine",
            "core-interface:restart": "Restart a rescue machine",
            "core-interface:machine": "Introduce a machine",
            "manage.py:add_source_core": "Add a source core, from the shell",
            "manage.py:add_target_core": "Add a target core, from the shell",
            "manage.py:fail_back": "Fail back machines, from the shell",
            "manage.py:fail_over": "Fail over machines, from the shell",
            "manage.py:pairing_code": "Make a pairing code, from the shell",
            "manage.py:replicate_machine": "Replicate a machine, from the shell",
        }
    )
    register_objects(
        {
            "pairing_id": ObjectKind("pairing", Pairing, "peer_name", "replication:pairing"),
            "replicated_id": ObjectKind(
                "replicated_machine", ReplicatedMachine, "machine__name", "replication:machine"
            ),
            "seed_drive_id": ObjectKind("seed_drive", SeedDrive, "replicated__machine__name"),
            "failover_id": ObjectKind(
                "failover", Failover, "pairing__peer_name", "replication:failover"
            ),
            "failback_id": ObjectKind(
                "failback", Failback, "pairing__peer_name", "replication:failback"
            ),
            "entry_id": ObjectKind("failback_machine", FailbackMachine, "machine__name"),
        }
    )
