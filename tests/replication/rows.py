"""The smallest valid rows of replication, one plain function each."""

import uuid
from typing import Any

from console.identity import this_core
from protected_machines.choices import ConnectionState, MachineKind
from protected_machines.models import Machine
from replication.models import Pairing, ReplicatedMachine
from replication.peers.credentials import digest_of, make_secret, seal
from tests.factories import NOON, make_machine

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
        "sealed_secret": seal(make_secret()),
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
