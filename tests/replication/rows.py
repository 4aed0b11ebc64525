"""The smallest valid rows of replication, one plain function each."""

import uuid
from datetime import datetime
from typing import Any

from console.identity import this_core
from protected_machines.choices import ConnectionState, MachineKind, PointState
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.points.index import index_point
from protected_machines.points.store import open_store
from replication.models import Pairing, ReplicatedMachine
from replication.peers.credentials import digest_of, seal
from tests.factories import NOON, make_machine
from tests.recovery_store.disks import send_disk

PEER_SECRET = "what the peer presents here"


def make_pairing(**changes: Any) -> Pairing:
    """A pairing with a core that nobody answers for."""
    values: dict[str, Any] = {
        "direction": "outgoing",
        "peer_core_id": uuid.uuid4(),
        "peer_name": "DR site",
        "host": "127.0.0.1",
        "port": 1,
        "peer_certificate_pem": this_core().certificate_pem,
        "sealed_secret": seal("what this core presents there"),
        "peer_secret_digest": digest_of(PEER_SECRET),
        "connection_state": ConnectionState.ONLINE,
        "last_seen_at": NOON,
    }
    return Pairing.objects.create(**{**values, **changes})


def make_replicated(
    pairing: Pairing | None = None, machine: Machine | None = None, **changes: Any
) -> ReplicatedMachine:
    """A machine on a pairing; on an incoming one it belongs to the peer."""
    pairing = pairing or make_pairing()
    if machine is None:
        machine = make_machine() if pairing.is_outgoing else make_replica(pairing)
    return ReplicatedMachine.objects.create(pairing=pairing, machine=machine, **changes)


def make_replica(pairing: Pairing, **changes: Any) -> Machine:
    """A machine of the peer's that this core holds copies of."""
    return make_machine(
        **{
            "kind": MachineKind.REPLICATED,
            "owner_core_id": pairing.peer_core_id,
            "owner_core_name": pairing.peer_name,
            "source_core_id": pairing.peer_core_id,
            **changes,
        }
    )


def hand_over(machine: Machine, pairing: Pairing) -> ReplicatedMachine:
    """Turn a machine with real points into a replica of the peer's, as if they had arrived."""
    machine.kind = MachineKind.REPLICATED
    machine.owner_core_id = pairing.peer_core_id
    machine.owner_core_name = pairing.peer_name
    machine.source_core_id = pairing.peer_core_id
    machine.save(update_fields=["kind", "owner_core_id", "owner_core_name", "source_core_id"])
    newest = machine.points.order_by("-taken_at").first()
    assert newest is not None
    return ReplicatedMachine.objects.create(
        pairing=pairing,
        machine=machine,
        last_point_id=newest.pk,
        last_point_at=newest.taken_at,
        last_synced_at=newest.taken_at,
        newest_point_at=newest.taken_at,
    )


def make_stored_point(
    machine: Machine, description: dict[str, Any], *, state: str, taken_at: datetime
) -> RecoveryPoint:
    """A base image of one small disk, in the store and in the index."""
    point_id = str(uuid.uuid4())
    with open_store().begin_point(
        str(machine.pk), machine.name, point_id, taken_at=taken_at
    ) as writer:
        send_disk(writer, 0, {0: 1}, 65536)
        manifest = writer.commit(description, "file_system", str(uuid.uuid4()), "Headquarters", 1)
    point = index_point(machine, manifest)
    changes: dict[str, object] = {"proven_at": NOON} if state == PointState.PROVEN else {}
    if state == PointState.DAMAGED:
        changes = {"damage_text": "disk0.vmdk is not what its digest says"}
    RecoveryPoint.objects.filter(pk=point.pk).update(state=state, **changes)
    return point
