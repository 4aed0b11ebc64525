"""Let the target cores of one source core ask each other which machines they have failed over.

Only the source core is paired with both. Its status introduces each to the other, with address,
certificate, and a secret that is good for this one question. The source core stores no such
secret: it can derive each again. Once introduced, the targets need the source core no longer.
"""

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
from django.db import transaction
from django.utils import timezone

from console.identity import this_core
from replication.errors import PairingRefused, ReplicationError
from replication.models import FellowCore, Pairing
from replication.peers import wire
from replication.peers.claims import hear_fellow
from replication.peers.client import PeerClient
from replication.peers.credentials import derive_fellow_secret, digest_of, seal, show_fellow, unseal

logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 2.0
_ANSWER_SECONDS = 4.0
_PARALLEL = 8


def fellows_of(pairing: Pairing) -> tuple[wire.Fellow, ...]:
    """Return what this core, as the source, tells a target core about its fellows."""
    machine_ids = pairing.machines.values("machine_id")
    others = (
        Pairing.objects.outgoing()
        .exclude(pk=pairing.pk)
        .filter(machines__machine_id__in=machine_ids)
        .distinct()
    )
    here = pairing.peer_core_id
    return tuple(
        wire.Fellow(
            core_id=other.peer_core_id,
            name=other.peer_name,
            host=other.host,
            port=other.port,
            certificate_pem=other.peer_certificate_pem,
            secret=derive_fellow_secret(here, other.peer_core_id),
            secret_digest=digest_of(derive_fellow_secret(other.peer_core_id, here)),
        )
        for other in others
    )


@transaction.atomic
def record_fellows(pairing: Pairing, told: Iterable[wire.Fellow]) -> None:
    """Save whom a source core has introduced; forget those that it no longer names."""
    named = {fellow.core_id: fellow for fellow in told if str(fellow.core_id) != this_core().id}
    rows = {row.core_id: row for row in pairing.fellows.all()}
    for core_id, row in rows.items():
        if core_id not in named:
            logger.info("fellow gone pairing_id=%s core_id=%s", pairing.pk, core_id)
            row.delete()
    for core_id, fellow in named.items():
        _record(rows.get(core_id) or FellowCore(pairing=pairing, core_id=core_id), fellow)


def _record(row: FellowCore, fellow: wire.Fellow) -> None:
    known = {name: getattr(row, name) for name in ("name", "host", "port", "certificate_pem")}
    told = {name: getattr(fellow, name) for name in known}
    is_secret_known = row.secret_digest == fellow.secret_digest and _is_sealed(row, fellow.secret)
    if known == told and is_secret_known:
        return
    for name, value in told.items():
        setattr(row, name, value)
    row.secret_digest = fellow.secret_digest
    if not is_secret_known:
        row.sealed_secret = seal(fellow.secret)
    row.save()
    logger.info("fellow known pairing_id=%s core_id=%s", row.pairing_id, row.core_id)


def _is_sealed(row: FellowCore, secret: str) -> bool:
    try:
        return bool(row.sealed_secret) and unseal(row.sealed_secret) == secret
    except PairingRefused:
        return False


def find_fellow(secret: str) -> FellowCore | None:
    """Return the fellow that presents this secret.

    It is found by the digest: the secret has 256 bits, so timing tells nothing of use.
    """
    return (
        FellowCore.objects.select_related("pairing").filter(secret_digest=digest_of(secret)).first()
    )


def moved_machines(fellow: FellowCore) -> wire.FellowAnswer:
    """Return who owns the machines that this core shares with a fellow, if that ever changed.

    Machines are told by their IDs only.
    """
    rows = fellow.pairing.machines.select_related("machine").filter(machine__ownership_epoch__gt=1)
    machines = [row.machine for row in rows if str(fellow.core_id) in row.fellow_core_ids]
    told = [msgspec.structs.replace(wire.Ownership.of(one), machine_name="") for one in machines]
    return wire.FellowAnswer(ownership=tuple(told))


def refresh_fellows(pairing: Pairing) -> None:
    """Ask the fellows of a source core's pairing which machines they own, and record the answers.

    All are asked at once; those that were asked within the last seconds are left out.
    """
    now = timezone.now()
    fellows = [one for one in pairing.fellows.all() if not one.is_asked_recently(now)]
    for fellow, answer in zip(fellows, _ask_all(fellows), strict=True):
        fellow.asked_at = timezone.now()
        if isinstance(answer, wire.FellowAnswer):
            fellow.answered_at, fellow.error_text = fellow.asked_at, ""
            hear_fellow(fellow, answer.ownership)
        else:
            fellow.error_text = answer
        fellow.save(update_fields=["asked_at", "answered_at", "error_text"])


def _ask_all(fellows: Sequence[FellowCore]) -> list[wire.FellowAnswer | str]:
    if not fellows:
        return []
    with ThreadPoolExecutor(_PARALLEL) as pool:
        return list(pool.map(_ask, fellows))


def _ask(fellow: FellowCore) -> wire.FellowAnswer | str:
    """Return the answer, or why there is none. Runs in a thread of its own, without database."""
    try:
        with PeerClient(
            fellow.host,
            fellow.port,
            fellow.certificate_pem,
            peer_name=fellow.name,
            authorization=show_fellow(unseal(fellow.sealed_secret)),
            answer_timeout_seconds=_ANSWER_SECONDS,
            connect_timeout_seconds=_CONNECT_SECONDS,
        ) as client:
            return client.machines_moved()
    except ReplicationError as error:
        logger.info("fellow not asked core_id=%s error=%s", fellow.core_id, error)
        return error.text
