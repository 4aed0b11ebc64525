"""The calls of the core interface: read the message, make one call, answer."""

import uuid
from typing import TypeVar

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_http_methods

from console.accounts.addresses import client_address
from protected_machines.agents import announcements
from protected_machines.models import Machine
from replication import heartbeat
from replication.api.caller import certificate_of
from replication.api.gate import answers_in_json, for_fellows, for_peers
from replication.errors import PeerFaulty
from replication.failback import source_side
from replication.models import FellowCore, Pairing
from replication.peers import pairing_codes, wire
from replication.peers.fellows import moved_machines
from replication.peers.pairing import accept_pairing
from replication.transfer import receiving
from replication.transfer.start import start_replications

SLICE_LIMIT_BYTES = 64 * 1024 * 1024
# All messages but those that name every point or machine of a core.
_MESSAGE_LIMIT_BYTES = 4 * 1024 * 1024
_PAIRING_LIMIT_BYTES = 8 * 1024
_ANNOUNCEMENT_LIMIT_BYTES = 4 * 1024
Message = TypeVar("Message", bound=wire.Message)


@require_http_methods(["GET", "POST"])
@answers_in_json
def pair(request: HttpRequest) -> JsonResponse:
    """Tell a core what it needs to prove this core's pairing code; pair with one that does."""
    if request.method == "GET":
        return answer(pairing_codes.challenge())
    asked = read(request, wire.PairingRequest, _PAIRING_LIMIT_BYTES)
    return answer(accept_pairing(asked, client_address(request)))


@require_http_methods(["POST"])
@answers_in_json
def announce(request: HttpRequest) -> JsonResponse:
    """Hear a machine's agent, known by the certificate that it showed in the handshake."""
    sent = read(request, wire.Announcement, _ANNOUNCEMENT_LIMIT_BYTES)
    announcements.hear(
        sent.machine_id,
        certificate_of(request),
        sent.boot_id,
        sent.port,
        sent.addresses,
        caller_address=request.META.get("REMOTE_ADDR", ""),
    )
    return answer(wire.Nothing())


@require_http_methods(["GET", "POST"])
@for_peers
def peer_status(request: HttpRequest, pairing: Pairing) -> JsonResponse:
    """Exchange the status of both cores on this pairing."""
    unshared_ids: list[uuid.UUID] = []
    if request.method == "POST":
        sent = read(request, wire.PeerStatus, wire.MESSAGE_LIMIT_BYTES)
        unshared_ids = heartbeat.record_call(pairing, sent)
    return answer(heartbeat.status_of(pairing, unshared_ids))


@require_http_methods(["GET"])
@for_fellows
def fellow_ownership(request: HttpRequest, fellow: FellowCore) -> JsonResponse:
    """Return who owns the machines of the common source core that have moved."""
    return answer(moved_machines(fellow))


@require_http_methods(["GET"])
@for_peers
def ownership(request: HttpRequest, pairing: Pairing, machine_id: uuid.UUID) -> JsonResponse:
    """Return who owns a machine of this pairing, as far as this core knows."""
    machine = Machine.objects.filter(pk=machine_id, replications__pairing=pairing).first()
    found = wire.Ownership.of(machine) if machine else None
    return answer(wire.OwnershipAnswer(ownership=found))


@require_http_methods(["PUT"])
@for_peers
def machine(request: HttpRequest, pairing: Pairing, machine_id: uuid.UUID) -> JsonResponse:
    """Record a machine that its source core replicates here, or that its owner fails back here."""
    accept = source_side.accept_machine if pairing.is_outgoing else receiving.accept_machine
    machine = accept(pairing, machine_id, read(request, wire.SentMachine))
    return answer(wire.Ownership.of(machine))


@require_http_methods(["POST"])
@for_peers
def missing_points(request: HttpRequest, pairing: Pairing, machine_id: uuid.UUID) -> JsonResponse:
    """Return which of the points this core lacks."""
    machine = receiving.get_machine_of(pairing, machine_id)
    wanted = read(request, wire.WantedPoints, wire.MESSAGE_LIMIT_BYTES)
    missing = receiving.missing_points(machine, wanted.point_ids)
    return answer(wire.MissingPoints(missing=tuple(missing)))


@require_http_methods(["POST"])
@for_peers
def replicas(request: HttpRequest, pairing: Pairing, machine_id: uuid.UUID) -> JsonResponse:
    """Begin or resume a point; the body is its manifest."""
    machine = receiving.get_machine_of(pairing, machine_id)
    manifest_bytes = _body(request, wire.MESSAGE_LIMIT_BYTES)
    held_bytes = receiving.begin_replica(pairing, machine, manifest_bytes)
    return answer(wire.HeldFiles(held_bytes=held_bytes))


@require_http_methods(["PUT"])
@for_peers
def replica_file(
    request: HttpRequest,
    pairing: Pairing,
    machine_id: uuid.UUID,
    point_id: uuid.UUID,
    file_name: str,
) -> JsonResponse:
    """Append bytes to a file where this core's copy ends."""
    machine = receiving.get_machine_of(pairing, machine_id)
    offset_bytes = wire.read_offset(request.GET.get("offset_bytes"))
    data = _body(request, SLICE_LIMIT_BYTES)
    held_bytes = receiving.append_slice(machine, point_id, file_name, offset_bytes, data)
    return answer(wire.HeldFile(held_bytes=held_bytes))


@require_http_methods(["POST"])
@for_peers
def replica_commit(
    request: HttpRequest, pairing: Pairing, machine_id: uuid.UUID, point_id: uuid.UUID
) -> JsonResponse:
    """Check every digest of an arrived point and keep it."""
    machine = receiving.get_machine_of(pairing, machine_id)
    point = receiving.commit_replica(pairing, machine, point_id)
    return answer(wire.KeptPoint(point_id=point.pk))


@require_http_methods(["POST"])
@for_peers
def force(request: HttpRequest, pairing: Pairing) -> JsonResponse:
    """Send missing points now, at the request of an administrator of the target core."""
    if not pairing.is_outgoing:
        raise PeerFaulty("Only the source core of a pairing can be asked to send.")
    asked = set(read(request, wire.SendRequest).machine_ids)
    rows = pairing.machines.all()
    known_ids = asked.intersection(rows.values_list("machine_id", flat=True))
    wanted = rows.filter(machine_id__in=known_ids) if asked else None
    started = start_replications(pairing, wanted, requested_by=None)
    return answer(wire.StartedSending(started=tuple(started)))


def read(
    request: HttpRequest, kind: type[Message], limit_bytes: int = _MESSAGE_LIMIT_BYTES
) -> Message:
    """Return the message in the body.

    Raises:
        PeerFaulty: the body is not such a message.
    """
    return kind.from_json(wire.decode(_body(request, limit_bytes) or b"{}"))


def answer(message: wire.Message) -> JsonResponse:
    """Return the message as a response."""
    return JsonResponse(message.to_json())


def _body(request: HttpRequest, limit_bytes: int) -> bytes:
    """Read the whole body; reject one that is too long or cut short."""
    announced_bytes = int(request.META.get("CONTENT_LENGTH") or 0)
    if announced_bytes > limit_bytes:
        raise PeerFaulty(f"The body has {announced_bytes} bytes; the limit is {limit_bytes}.")
    data = request.read(announced_bytes)
    if len(data) != announced_bytes:
        raise PeerFaulty(f"The body ended after {len(data)} of {announced_bytes} bytes.")
    return data
