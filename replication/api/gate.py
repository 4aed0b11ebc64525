"""Who may call the core interface, and how it rejects requests: JSON with a code and a text."""

import functools
import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.http import HttpRequest, JsonResponse
from django.utils import timezone

from console.accounts.addresses import client_address
from console.audit.acts import subject_of, title_of
from console.audit.choices import ActorKind
from console.audit.door import Actor, come_in
from console.audit.log import record
from console.jobs.errors import JobConflict
from protected_machines.errors import ProtectedMachinesError
from recovery_store.errors import ReplicaDamaged, StoreError, StoreFull
from replication.errors import (
    DamagedOnArrival,
    FailbackRefused,
    OffsetMismatch,
    OwnedElsewhere,
    PairingCodeRefused,
    PeerFaulty,
    PeerPausedReplication,
    PeerRefusedSecret,
    PeerStoreFull,
    QuotaReached,
    ReplicationError,
)
from replication.models import Pairing
from replication.peers.credentials import is_secret, read_fellow, read_pairing
from replication.peers.fellows import find_fellow
from replication.peers.wire import Refusal

logger = logging.getLogger(__name__)
View = Callable[..., JsonResponse]

_STATUS = {
    OwnedElsewhere: 409,
    OffsetMismatch: 409,
    PeerPausedReplication: 409,
    DamagedOnArrival: 422,
    PeerRefusedSecret: 401,
    PairingCodeRefused: 403,
    PeerStoreFull: 507,
    QuotaReached: 507,
    PeerFaulty: 400,
    FailbackRefused: 409,
}


# Calls that are recorded here. Others that change something are recorded by what they change: an
# owner, a machine, a job. What moves points and what only asks is not recorded.
RECORDED = ("restart", "survey_rescue_machine")


def core_actor(request: HttpRequest, pairing: Pairing) -> Actor:
    """Return the paired core that calls, as the audit log names it."""
    address = client_address(request)
    return Actor(ActorKind.CORE, pairing.peer_name, str(pairing.peer_core_id), address)


def answers_in_json(view: View) -> View:
    """Turn every expected error into a refusal in JSON."""

    @functools.wraps(view)
    def wrapped(request: HttpRequest, **arguments: Any) -> JsonResponse:
        try:
            return view(request, **arguments)
        except ReplicationError as error:
            return _refusal(error)
        except JobConflict as error:
            return _refusal(FailbackRefused(error.text, error.code))
        except ReplicaDamaged as error:
            return _refusal(DamagedOnArrival(str(error)))
        except StoreFull as error:
            return _refusal(PeerStoreFull(str(error)))
        except (StoreError, ProtectedMachinesError) as error:
            return JsonResponse(Refusal(code=error.code, text=str(error)).to_json(), status=422)

    return wrapped


def for_peers(view: View) -> View:
    """Let in only a paired core with its secret; pass its pairing to the view."""

    @functools.wraps(view)
    def wrapped(request: HttpRequest, **arguments: Any) -> JsonResponse:
        pairing = _pairing_of(request)
        pairing.note_heard(timezone.now())
        with come_in(core_actor(request, pairing)):
            answer = view(request, pairing=pairing, **arguments)
            if view.__name__ in RECORDED:
                act = f"core-interface:{view.__name__}"
                record(act, f"{title_of(act)}.", subject_of(arguments))
            return answer

    return answers_in_json(wrapped)


def for_fellows(view: View) -> View:
    """Let in only another target core of a common source core; pass its row to the view."""

    @functools.wraps(view)
    def wrapped(request: HttpRequest, **arguments: Any) -> JsonResponse:
        fellow = find_fellow(read_fellow(request.headers.get("Authorization", "")))
        if fellow is None:
            raise PeerRefusedSecret(
                "This core does not accept this secret: the source core of both has not "
                "introduced the caller here, or no longer does."
            )
        return view(request, fellow=fellow, **arguments)

    return answers_in_json(wrapped)


def find_caller(authorization: str) -> Pairing | None:
    """Return the pairing whose secret this header shows."""
    shown = read_pairing(authorization)
    if shown is None:
        return None
    pairing_id, secret = shown
    pairing = Pairing.objects.filter(pk=pairing_id).first()
    return pairing if pairing and is_secret(secret, pairing.peer_secret_digest) else None


def _pairing_of(request: HttpRequest) -> Pairing:
    pairing = find_caller(request.headers.get("Authorization", ""))
    if pairing is None:
        logger.warning("core interface refused path=%s", request.path)
        raise PeerRefusedSecret(
            "This core does not accept the secret of this pairing: the pairing was "
            "removed or replaced here. Pair the two cores again."
        )
    return pairing


def _refusal(error: ReplicationError) -> JsonResponse:
    refusal = Refusal(code=error.code, text=error.text)
    if isinstance(error, OwnedElsewhere):
        refusal = Refusal(
            code=error.code,
            text=error.text,
            machine_id="",
            machine_name=error.machine_name,
            owner_core_id=UUID(error.claim.owner_core_id),
            owner_core_name=error.claim.owner_core_name,
            ownership_epoch=error.claim.ownership_epoch,
            owned_since=error.claim.owned_since,
        )
    elif isinstance(error, OffsetMismatch):
        refusal = Refusal(
            code=error.code,
            text=error.text,
            held_bytes=error.offset_bytes,
            file_name=error.file_name,
        )
    return JsonResponse(refusal.to_json(), status=_STATUS.get(type(error), 400))
