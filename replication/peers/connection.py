"""Talk to the peers of this core, and record on the pairing how that went."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.utils import timezone

from protected_machines.claims import OwnershipClaim, Speaker
from protected_machines.models import Machine
from protected_machines.ownership import register_peer_question
from replication.errors import (
    PairingRefused,
    PeerCertificateChanged,
    PeerError,
    PeerRefusedSecret,
    PeerUnreachable,
    ReplicationError,
)
from replication.models import Pairing, ReplicatedMachine
from replication.peers.claims import speaker_on
from replication.peers.client import ANSWER_TIMEOUT_SECONDS, CONNECT_TIMEOUT_SECONDS, PeerClient
from replication.peers.credentials import show_pairing, unseal

logger = logging.getLogger(__name__)

_QUESTION_CONNECT_SECONDS = 2.0
_QUESTION_ANSWER_SECONDS = 4.0


@dataclass(frozen=True)
class SourceCore:
    """A source core as an owner of machines."""

    id: str
    name: str


@contextmanager
def speaking_with(
    pairing: Pairing,
    *,
    answer_timeout_seconds: float = ANSWER_TIMEOUT_SECONDS,
    connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
) -> Iterator[PeerClient]:
    """Open a connection to the peer; how the calls went is saved on the pairing.

    Raises:
        PeerError: whatever the calls inside raise.
        PairingRefused: this core's own secret can no longer be read.
    """
    try:
        with PeerClient(
            pairing.host,
            pairing.port,
            pairing.peer_certificate_pem,
            peer_name=pairing.peer_name,
            authorization=show_pairing(pairing.pk, unseal(pairing.sealed_secret)),
            answer_timeout_seconds=answer_timeout_seconds,
            connect_timeout_seconds=connect_timeout_seconds,
        ) as client:
            yield client
    except PeerUnreachable as error:
        pairing.note_unreachable(error.text, timezone.now())
        raise
    except (PeerCertificateChanged, PeerRefusedSecret, PairingRefused) as error:
        pairing.note_authentication_error(error.text, timezone.now())
        raise
    except ReplicationError:
        # It answered, even if with an error.
        pairing.note_seen(timezone.now())
        raise
    pairing.note_seen(timezone.now())


def ask_peers_who_owns(machine: Machine) -> list[tuple[OwnershipClaim, Speaker]]:
    """Ask every core that shares the machine who owns it; no answer is no claim."""
    claims = []
    shared = ReplicatedMachine.objects.filter(machine_id=machine.pk).select_related("pairing")
    for replicated in shared:
        try:
            with speaking_with(
                replicated.pairing,
                answer_timeout_seconds=_QUESTION_ANSWER_SECONDS,
                connect_timeout_seconds=_QUESTION_CONNECT_SECONDS,
            ) as client:
                ownership = client.ownership(machine.pk)
        except (PeerError, PairingRefused) as error:
            logger.info(
                "peer not asked machine_id=%s pairing_id=%s error=%s",
                machine.pk,
                replicated.pairing_id,
                error,
            )
            continue
        if ownership is not None:
            claims.append((ownership.claim, speaker_on(replicated.pairing, shares_machine=True)))
    return claims


def register_hooks() -> None:
    """Have every act on a replicated machine ask the other core about the owner first."""
    register_peer_question(ask_peers_who_owns)
