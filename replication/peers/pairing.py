"""Pair two cores: one dials, and proves the one-time code that was made on the other.

Usually the source core asks its target. If a disaster destroyed the source core, the target asks a
reinstalled core to become the source, and the machines that run at the target move to that pairing.
"""

import logging
import secrets
import ssl
import uuid
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from agent.proof import NONCE_BYTES, SHORTEST_CODE, Exchange, Side, code_key, is_long_enough
from console.audit.choices import ActorKind
from console.audit.door import Actor, come_in
from console.audit.log import Subject, record
from console.identity import fingerprint_of, this_core
from protected_machines.choices import ConnectionState
from protected_machines.models import Machine
from replication.choices import Direction
from replication.errors import PairingCodeRefused, PairingRefused
from replication.models import Pairing
from replication.peers import pairing_codes, wire
from replication.peers.client import PeerClient, fetch_certificate
from replication.peers.credentials import derive_secret, digest_of, seal

logger = logging.getLogger(__name__)


def add_target_core(host: str, port: int, code: str, fingerprint: str = "") -> Pairing:
    """Pair this core, as the source, with the core at this address; pairing again renews it.

    Pins the certificate found there, which the other core proves by the code. Can be called again
    with the same code if the answer was lost.

    fingerprint: that certificate must have this one, if given.

    Raises:
        PeerUnreachable: nothing answers there.
        PairingRefused: the certificate is a different one, or it is this core itself.
        PairingCodeRefused: the other core does not know this code, or it is no longer valid.
    """
    return _ask_to_pair(Direction.OUTGOING, host, port, code, fingerprint)


def add_source_core(
    host: str,
    port: int,
    code: str,
    fingerprint: str = "",
    replaces: Pairing | None = None,
) -> Pairing:
    """Pair this core, as the target, with a core that becomes the source.

    replaces: the pairing with a lost source core. Its machines that this core owns move to the new
        pairing, so that they can fail back. The old pairing is deleted once it has no machines.

    Raises as `add_target_core`.
    """
    pairing = _ask_to_pair(Direction.INCOMING, host, port, code, fingerprint)
    if replaces is not None and replaces.pk != pairing.pk:
        take_machines_over(replaces, pairing)
    return pairing


def find_replaced(pairings: QuerySet[Pairing], host: str, port: int) -> Pairing | None:
    """Return the source core that used to be at this address, if there is one."""
    return pairings.filter(direction=Direction.INCOMING, host=host, port=port).first()


@transaction.atomic
def take_machines_over(lost: Pairing, new: Pairing) -> int:
    """Move the machines that this core owns from a lost source core to a new one."""
    core_id = this_core().id
    rows = lost.machines.filter(machine__owner_core_id=core_id)
    machine_ids = list(rows.values_list("machine_id", flat=True))
    rows.exclude(machine__replications__pairing=new).update(pairing=new)
    Machine.objects.filter(pk__in=machine_ids).update(source_core_id=new.peer_core_id)
    if not lost.machines.exclude(machine__owner_core_id=core_id).exists():
        lost.failovers.update(pairing=new)
        lost.failbacks.update(pairing=new)
        lost.delete()
    logger.info("machines taken over pairing_id=%s machines=%s", new.pk, len(machine_ids))
    return len(machine_ids)


def _ask_to_pair(
    direction: Direction, host: str, port: int, code: str, fingerprint: str
) -> Pairing:
    if not is_long_enough(code):
        raise PairingCodeRefused(
            f"A pairing code has {SHORTEST_CODE} letters and digits; this one is too short."
        )
    certificate_pem = fetch_certificate(host, port)
    _check_certificate(certificate_pem, fingerprint, f"{host}:{port}")
    core = this_core()
    with PeerClient(host, port, certificate_pem) as client:
        challenge = client.pairing_challenge()
        key = code_key(code, bytes.fromhex(challenge.salt))
        exchange = Exchange(
            ssl.PEM_cert_to_DER_cert(core.certificate_pem),
            ssl.PEM_cert_to_DER_cert(certificate_pem),
            secrets.token_bytes(NONCE_BYTES),
            bytes.fromhex(challenge.nonce),
        )
        presented_here = derive_secret(key, certificate_pem)
        request = wire.PairingRequest(
            pairing_id=uuid.uuid4(),
            core_id=uuid.UUID(core.id),
            name=core.name,
            host=settings.UNDERSTUDY_ADDRESS,
            port=settings.UNDERSTUDY_CORE_PORT,
            certificate_pem=core.certificate_pem,
            secret=presented_here,
            # The role of the core that asks.
            role="source" if direction == Direction.OUTGOING else "target",
            nonce=exchange.caller_nonce.hex(),
            proof=exchange.proof(Side.CALLING_CORE, key),
        )
        answer = client.pair(request)
    if not exchange.is_proof(answer.proof, Side.CALLED_CORE, key):
        raise PairingCodeRefused(
            f"The core that answered at {host}:{port} does not know the code. Check the address; "
            "someone may be intercepting the connection. Nothing was paired on this core."
        )
    pairing = _keep(
        direction,
        pairing_id=answer.pairing_id,
        peer=_Peer(answer.core_id, answer.name, host, port, certificate_pem, answer.secret),
        presented_here=presented_here,
        is_asking=True,
    )
    pairing.note_seen(timezone.now(), force=True)
    return pairing


def accept_pairing(asked: wire.PairingRequest, caller_address: str = "") -> wire.PairingAnswer:
    """Pair with the core that asks, as its target or its source; return what it needs to know.

    A core that asks again with the same code, because the answer was lost, gets the same answer.

    Raises:
        PairingCodeRefused: it does not prove that it knows the code, or no code is open to it.
        PairingRefused: the core that asks is this core itself.
    """
    core = this_core()
    caller = pairing_codes.check_proof(asked)
    if str(asked.core_id) == core.id:
        raise PairingRefused("A core cannot pair with itself. Enter the address of another core.")
    presented_here = derive_secret(caller.key, asked.certificate_pem)
    wants_source = asked.role == "target"
    with transaction.atomic():
        pairing_codes.use_up(caller, asked)
        pairing = _keep(
            Direction.OUTGOING if wants_source else Direction.INCOMING,
            pairing_id=asked.pairing_id,
            peer=_Peer(
                asked.core_id,
                asked.name,
                asked.host,
                asked.port,
                asked.certificate_pem,
                asked.secret,
            ),
            presented_here=presented_here,
        )
    logger.info(
        "paired as %s pairing_id=%s peer=%s fingerprint=%s code_id=%s",
        "source" if wants_source else "target",
        pairing.pk,
        pairing.peer_name,
        fingerprint_of(asked.certificate_pem),
        caller.code.pk,
    )
    with come_in(Actor(ActorKind.CORE, pairing.peer_name, str(asked.core_id), caller_address)):
        record(
            "core-interface:pair",
            f"{pairing.peer_name} paired as the {'target' if wants_source else 'source'} core.",
            Subject("pairing", str(pairing.pk), pairing.peer_name),
        )
    return wire.PairingAnswer(
        pairing_id=pairing.pk,
        core_id=uuid.UUID(core.id),
        name=core.name,
        secret=presented_here,
        proof=caller.exchange.proof(Side.CALLED_CORE, caller.key),
    )


@dataclass(frozen=True)
class _Peer:
    """What a pairing keeps of the other core; `secret` is the one that this core presents."""

    core_id: uuid.UUID
    name: str
    host: str
    port: int
    certificate_pem: str
    secret: str


def _check_certificate(certificate_pem: str, fingerprint: str, address: str) -> None:
    found = fingerprint_of(certificate_pem)
    wanted = fingerprint.replace(":", "").replace(" ", "").lower()
    if wanted and wanted != found:
        raise PairingRefused(
            f"The certificate of the core at {address} has the fingerprint {found}, not "
            f"{wanted}. Compare it on the other core before you continue."
        )
    if found == this_core().fingerprint:
        raise PairingRefused(
            f"{address} is this core itself. Enter the address of the core at the other site."
        )


@transaction.atomic
def _keep(
    direction: Direction,
    pairing_id: uuid.UUID,
    peer: _Peer,
    presented_here: str,
    *,
    is_asking: bool = False,
) -> Pairing:
    """Save a pairing, or renew the one with the same core; its machines stay."""
    fields = {
        "peer_name": peer.name,
        "host": peer.host,
        "port": peer.port,
        "peer_certificate_pem": peer.certificate_pem,
        "sealed_secret": seal(peer.secret),
        "peer_secret_digest": digest_of(presented_here),
        "connection_state": ConnectionState.UNKNOWN,
        "connection_error": "",
    }
    known, is_new = Pairing.objects.select_for_update().get_or_create(
        direction=direction, peer_core_id=peer.core_id, defaults={"id": pairing_id, **fields}
    )
    if is_new:
        return known
    if known.pk != pairing_id and is_asking:
        # The peer no longer knew this core and created the pairing with another ID.
        return _move(known, pairing_id, fields)
    Pairing.objects.filter(pk=known.pk).update(**fields)
    known.refresh_from_db()
    return known


def _move(known: Pairing, pairing_id: uuid.UUID, fields: dict[str, Any]) -> Pairing:
    machines = list(known.machines.values_list("pk", flat=True))
    moved = Pairing(
        pk=pairing_id, direction=known.direction, peer_core_id=known.peer_core_id, **fields
    )
    # One pairing per core and direction: the old row makes way before its machines move over.
    Pairing.objects.filter(pk=known.pk).update(peer_core_id=uuid.uuid4())
    moved.save(force_insert=True)
    moved.machines.model.objects.filter(pk__in=machines).update(pairing=moved)
    known.failovers.update(pairing=moved)
    known.failbacks.update(pairing=moved)
    known.delete()
    return moved
