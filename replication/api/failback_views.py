"""The calls of a failback: read the message, call `source_side`, answer."""

import uuid

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_http_methods

from replication.api.gate import for_peers
from replication.api.views import answer, read
from replication.errors import PeerFaulty
from replication.failback import source_side
from replication.models import Pairing
from replication.peers import wire


@require_http_methods(["POST"])
@for_peers
def survey_rescue_machine(request: HttpRequest, pairing: Pairing) -> JsonResponse:
    """Pair with a rescue machine at this core's site."""
    _require_target(pairing)
    sent = read(request, wire.RescueAddress)
    return answer(source_side.survey_rescue_machine(sent))


@require_http_methods(["GET"])
@for_peers
def points(request: HttpRequest, pairing: Pairing, machine_id: uuid.UUID) -> JsonResponse:
    """Return which points of the machine this core holds."""
    _require_target(pairing)
    return answer(wire.HeldPoints(point_ids=source_side.point_ids(pairing, machine_id)))


@require_http_methods(["POST"])
@for_peers
def restores(request: HttpRequest, pairing: Pairing, machine_id: uuid.UUID) -> JsonResponse:
    """Write a point to a rescue machine."""
    _require_target(pairing)
    sent = read(request, wire.RestoreRequest)
    return answer(source_side.start_restore(pairing, machine_id, sent))


@require_http_methods(["POST"])
@for_peers
def restart(request: HttpRequest, pairing: Pairing, machine_id: uuid.UUID) -> JsonResponse:
    """Start the rescue machine from its own disk."""
    _require_target(pairing)
    sent = read(request, wire.ChosenRescueMachine)
    return answer(source_side.restart_rescue_machine(pairing, machine_id, sent))


@require_http_methods(["POST"])
@for_peers
def ask(request: HttpRequest, pairing: Pairing, machine_id: uuid.UUID) -> JsonResponse:
    """Return whether the machine's own agent answers."""
    _require_target(pairing)
    sent = read(request, wire.SoughtMachine)
    return answer(source_side.ask_machine(pairing, machine_id, sent))


@require_http_methods(["POST"])
@for_peers
def take_over(request: HttpRequest, pairing: Pairing, machine_id: uuid.UUID) -> JsonResponse:
    """Become the owner of a machine that was handed over."""
    _require_target(pairing)
    sent = read(request, wire.TakeOver)
    return answer(source_side.take_over(pairing, machine_id, sent))


@require_http_methods(["POST"])
@for_peers
def snapshots(request: HttpRequest, pairing: Pairing, machine_id: uuid.UUID) -> JsonResponse:
    """Force a snapshot."""
    _require_target(pairing)
    sent = read(request, wire.SnapshotRequest)
    return answer(source_side.start_snapshot(pairing, machine_id, sent))


@require_http_methods(["GET"])
@for_peers
def job(
    request: HttpRequest, pairing: Pairing, machine_id: uuid.UUID, job_id: uuid.UUID
) -> JsonResponse:
    """Return the status of a job."""
    _require_target(pairing)
    return answer(source_side.show_job(pairing, machine_id, job_id))


@require_http_methods(["POST"])
@for_peers
def job_cancel(
    request: HttpRequest, pairing: Pairing, machine_id: uuid.UUID, job_id: uuid.UUID
) -> JsonResponse:
    """Cancel a job."""
    _require_target(pairing)
    return answer(source_side.stop_job(pairing, machine_id, job_id))


def _require_target(pairing: Pairing) -> None:
    if not pairing.is_outgoing:
        raise PeerFaulty("Only a target core can have machines fail back to this core.")
