"""A peer that says something wrong, whether it asks or answers, is refused and changes nothing."""

import inspect
import json
import re
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from django.apps import apps
from django.test import Client

from console.identity import this_core
from protected_machines.models import Machine
from replication.api import failback_views
from replication.api import views as views_of_cores
from replication.errors import PeerFaulty
from replication.heartbeat import record_peer_status
from replication.models import Pairing, ReplicatedMachine
from replication.peers import wire
from replication.peers.client import PeerClient
from replication.peers.pairing_codes import make_pairing_code
from tests.factories import make_machine
from tests.replication.messages import MESSAGES, Wrong, example, wrong_messages
from tests.replication.rows import PEER_SECRET, make_pairing, make_replicated

# Which columns say that a peer called, whatever it said.
CALLED = {"heard_at", "last_seen_at"}
MACHINE_ID, TARGET_ID, REQUEST_ID, POINT_ID = (uuid.uuid4() for _ in range(4))
SOUGHT = wire.SoughtMachine(target_id=TARGET_ID)

ASKED: list[tuple[str, str, str, type[wire.Message]]] = [
    ("incoming", "POST", "/announcements", wire.Announcement),
    ("incoming", "POST", "/pair", wire.PairingRequest),
    ("incoming", "POST", "/status", wire.PeerStatus),
    ("incoming", "PUT", "/machines/{new}", wire.SentMachine),
    ("incoming", "PUT", "/machines/{known}", wire.SentMachine),
    ("outgoing", "PUT", "/machines/{new}", wire.SentMachine),
    ("outgoing", "PUT", "/machines/{known}", wire.SentMachine),
    ("incoming", "POST", "/machines/{known}/missing-points", wire.WantedPoints),
    ("outgoing", "POST", "/force", wire.SendRequest),
    ("outgoing", "POST", "/restore-targets", wire.RescueAddress),
    ("outgoing", "POST", "/machines/{known}/restores", wire.RestoreRequest),
    ("outgoing", "POST", "/machines/{known}/restart", wire.ChosenRescueMachine),
    ("outgoing", "POST", "/machines/{known}/ask", wire.SoughtMachine),
    ("outgoing", "POST", "/machines/{known}/take-over", wire.TakeOver),
    ("outgoing", "POST", "/machines/{known}/snapshots", wire.SnapshotRequest),
]

ANSWERED: list[tuple[type[wire.Message], Callable[[PeerClient], object]]] = [
    (wire.PairingChallenge, lambda peer: peer.pairing_challenge()),
    (
        wire.PairingAnswer,
        lambda peer: peer.pair(wire.PairingRequest.from_json(example(wire.PairingRequest))),
    ),
    (wire.PeerStatus, lambda peer: peer.status()),
    (
        wire.PeerStatus,
        lambda peer: peer.send_status(wire.PeerStatus.from_json(example(wire.PeerStatus))),
    ),
    (wire.FellowAnswer, lambda peer: peer.machines_moved()),
    (wire.OwnershipAnswer, lambda peer: peer.ownership(MACHINE_ID)),
    (
        wire.Ownership,
        lambda peer: peer.put_machine(
            MACHINE_ID, wire.SentMachine.from_json(example(wire.SentMachine))
        ),
    ),
    (wire.MissingPoints, lambda peer: peer.missing_points(MACHINE_ID, [POINT_ID])),
    (wire.HeldFiles, lambda peer: peer.begin_replica(MACHINE_ID, b"{}")),
    (wire.HeldFile, lambda peer: peer.put_slice(MACHINE_ID, str(POINT_ID), "disk0", 0, b"x")),
    (wire.KeptPoint, lambda peer: peer.commit_replica(MACHINE_ID, str(POINT_ID), 1)),
    (wire.StartedSending, lambda peer: peer.ask_to_send()),
    (wire.HeldPoints, lambda peer: peer.point_ids(MACHINE_ID)),
    (wire.FoundRescueMachine, lambda peer: peer.survey_rescue_machine("192.0.2.7", 8006, "code")),
    (wire.MachineAnswer, lambda peer: peer.ask_machine(MACHINE_ID, SOUGHT)),
    (wire.JobStatus, lambda peer: peer.force_snapshot(MACHINE_ID, REQUEST_ID)),
    (wire.JobStatus, lambda peer: peer.cancel_job(MACHINE_ID, REQUEST_ID)),
    (
        wire.JobStatus,
        lambda peer: peer.start_restore(
            MACHINE_ID, wire.RestoreRequest.from_json(example(wire.RestoreRequest))
        ),
    ),
    (wire.Nothing, lambda peer: peer.restart_rescue_machine(MACHINE_ID, TARGET_ID)),
    (
        wire.Ownership,
        lambda peer: peer.take_over(MACHINE_ID, wire.TakeOver.from_json(example(wire.TakeOver))),
    ),
]
# Tried in the messages that they are a part of.
PARTS: dict[type[wire.Message], type[wire.Message]] = {
    wire.Behind: wire.PeerStatus,
    wire.Fellow: wire.PeerStatus,
    wire.JobOutputs: wire.JobStatus,
    wire.MachineAddress: wire.MachineAnswer,
    wire.NamedPoint: wire.JobStatus,
    wire.WrittenDisks: wire.JobStatus,
}


def test_each_message_is_sent_or_answered_wrongly_here() -> None:
    tried = {kind for *_, kind in ASKED} | {kind for kind, _ in ANSWERED} | {wire.Refusal}
    assert set(MESSAGES) == tried | PARTS.keys()
    for part, whole in PARTS.items():
        wrong = {re.split(r"\W+", wrong.field)[-1] for wrong in wrong_messages(whole)}
        assert set(part.__struct_fields__) <= wrong, part


def test_each_call_of_a_core_is_answered_wrongly_here() -> None:
    public = {name for name in vars(PeerClient) if not name.startswith("_")}
    assert public == {name for _, ask in ANSWERED for name in ask.__code__.co_names} & public


def test_each_message_that_the_core_interface_reads_is_sent_wrongly_here() -> None:
    views = (inspect.getsource(room) for room in (views_of_cores, failback_views))
    read = {
        name for source in views for name in re.findall(r"read\(\s*request, wire\.(\w+)", source)
    }
    assert read == {kind.__name__ for *_, kind in ASKED}


def sendable(kind: type[wire.Message]) -> list[tuple[Wrong, bytes]]:
    """The wrong messages but those of many megabytes, which `test_wire.py` tries."""
    return [
        (wrong, json.dumps(wrong.message).encode())
        for wrong in wrong_messages(kind)
        if wrong.what != "too many"
    ]


def call(pairing: Pairing, method: str, path: str, body: bytes) -> Any:
    return Client().generic(
        method,
        f"/api/v1{path}",
        body,
        content_type="application/json",
        headers={"Authorization": f"Understudy {pairing.pk}:{PEER_SECRET}"},
    )


def all_rows() -> dict[str, list[dict[str, Any]]]:
    """All that this core keeps, but for when it was last called."""
    models = [
        *apps.get_app_config("protected_machines").get_models(),
        *apps.get_app_config("replication").get_models(),
        *apps.get_app_config("jobs").get_models(),
    ]
    return {
        model.__name__: [
            {name: value for name, value in row.items() if name not in CALLED}
            for row in model._default_manager.order_by("pk").values()
        ]
        for model in models
    }


@pytest.mark.usefixtures("core_interface", "db")
@pytest.mark.parametrize(
    ("direction", "method", "path", "kind"), ASKED, ids=lambda part: getattr(part, "__name__", part)
)
def test_a_wrong_request_is_refused_and_nothing_is_written(
    direction: str, method: str, path: str, kind: type[wire.Message]
) -> None:
    # What cannot be read does not count as a wrong try of an open code.
    make_pairing_code("admin")
    pairing = make_pairing(direction=direction, peer_name="Elsewhere")
    machine = make_replicated(pairing).machine
    if direction == "outgoing":
        # It runs at the target, and is about to come back.
        Machine.objects.filter(pk=machine.pk).update(owner_core_id=pairing.peer_core_id)
    path = path.format(known=machine.pk, new=uuid.uuid4())
    before = all_rows()
    for wrong, body in sendable(kind):
        if wrong.is_forgiven:
            continue
        answer = call(pairing, method, path, body)
        assert (answer.status_code, answer.json()["code"]) == (400, PeerFaulty.code), wrong
        assert answer.json()["text"], wrong
    assert all_rows() == before


@pytest.mark.usefixtures("core_interface", "db")
def test_one_machine_that_is_told_wrongly_does_not_keep_the_others_from_being_told() -> None:
    pairing = make_pairing(direction="incoming", peer_name="Elsewhere")
    told, other = make_replicated(pairing), make_replicated(pairing)
    (owned,) = example(wire.PeerStatus)["ownership"]
    for number, (wrong, _) in enumerate(sendable(wire.PeerStatus), start=1):
        # Half a pair is no JSON at all.
        if not wrong.is_forgiven or wrong.what == "half a pair":
            continue
        (told_wrongly,) = wrong.message["behind"].values()
        status = {
            **wrong.message,
            "paused_machine_ids": [*wrong.message["paused_machine_ids"], str(told.machine_id)],
            "ownership": [
                *wrong.message["ownership"],
                {
                    **owned,
                    "machine_id": str(told.machine_id),
                    "owner_core_id": str(pairing.peer_core_id),
                    "ownership_epoch": number + 1,
                },
            ],
            "behind": {
                str(other.machine_id): told_wrongly,
                str(told.machine_id): {"points": number, "bytes": number},
            },
        }
        ReplicatedMachine.objects.update(behind_points=3, is_paused_by_peer=False)
        answer = call(pairing, "POST", "/status", json.dumps(status).encode())
        assert answer.status_code == 200, wrong
        for row in (told, other, told.machine):
            row.refresh_from_db()
        assert told.is_paused_by_peer, wrong
        assert told.machine.ownership_epoch == number + 1, wrong
        # What cannot be read says nothing; it is not taken for none.
        expected = 3 if wrong.field.startswith("behind.") else 7
        assert (told.behind_points, other.behind_points) == (number, expected), wrong


def test_a_status_of_far_more_machines_than_there_are_is_taken(db: None) -> None:
    pairing = make_pairing(direction="incoming")
    replicated = make_replicated(pairing)
    # More than the parameters that a query may have.
    strangers = tuple(uuid.uuid4() for _ in range(70_000))
    status = wire.PeerStatus(
        core_id=pairing.peer_core_id,
        name="Elsewhere",
        paused_machine_ids=(replicated.machine_id, *strangers),
    )
    record_peer_status(pairing, wire.PeerStatus.from_json(status.to_json()))
    replicated.refresh_from_db()
    assert replicated.is_paused_by_peer


@pytest.fixture
def coming_back(core_interface: None, db: None) -> ReplicatedMachine:
    """A machine that runs at the target of an outgoing pairing."""
    pairing = make_pairing(direction="outgoing", peer_name="Elsewhere")
    machine = make_machine(owner_core_id=pairing.peer_core_id, host="10.1.0.7")
    return make_replicated(pairing, machine)


@pytest.mark.parametrize("path", ["ask", "take-over"])
def test_a_machine_whose_agent_nobody_could_know_again_is_refused(
    coming_back: ReplicatedMachine, path: str
) -> None:
    kind = wire.SoughtMachine if path == "ask" else wire.TakeOver
    before = all_rows()
    answer = call(
        coming_back.pairing,
        "POST",
        f"/machines/{coming_back.machine_id}/{path}",
        json.dumps(example(kind)).encode(),
    )
    assert (answer.status_code, answer.json()["code"]) == (400, PeerFaulty.code)
    assert "did not send the certificate" in answer.json()["text"]
    assert all_rows() == before


@pytest.mark.parametrize("taken", ["address", "name"])
def test_a_machine_does_not_come_back_in_place_of_another(
    coming_back: ReplicatedMachine, taken: str
) -> None:
    machine = coming_back.machine
    Machine.objects.filter(pk=machine.pk).update(
        agent_certificate_pem=this_core().certificate_pem, source_core_id=uuid.uuid4()
    )
    make_machine(**({"name": machine.name} if taken == "name" else {"host": "10.1.0.9"}))
    before = all_rows()
    sent = {**example(wire.TakeOver), "host": "10.1.0.9", "port": 8006}
    answer = call(
        coming_back.pairing,
        "POST",
        f"/machines/{machine.pk}/take-over",
        json.dumps(sent).encode(),
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "REPLICATION-FAILBACK")
    assert "another machine" in answer.json()["text"]
    assert all_rows() == before


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bytes]]:
    """What the peer answers next: status and body."""
    waiting: list[tuple[int, bytes]] = []

    def answer(_transport: object, _request: httpx.Request) -> httpx.Response:
        status, body = waiting.pop()
        return httpx.Response(status, content=body)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)
    return waiting


@pytest.fixture
def peer() -> PeerClient:
    return PeerClient("192.0.2.1", 8001, this_core().certificate_pem, peer_name="Elsewhere")


@pytest.mark.parametrize(
    ("kind", "ask"), ANSWERED, ids=lambda part: getattr(part, "__name__", "call")
)
def test_a_wrong_answer_is_refused_and_says_whose_it_was(
    answers: list[tuple[int, bytes]],
    peer: PeerClient,
    kind: type[wire.Message],
    ask: Callable[[PeerClient], object],
) -> None:
    for wrong, body in sendable(kind):
        if wrong.is_forgiven:
            continue
        answers.append((200, body))
        with pytest.raises(PeerFaulty, match=r"Elsewhere at .* gave an unreadable answer .* 200"):
            ask(peer)
    for body in (b"", b"<html>", b"[" * 100_000, b'{"code": NaN}', b'{"x": "\\ud800"}'):
        answers.append((200, body))
        with pytest.raises(PeerFaulty, match="gave an unreadable answer"):
            ask(peer)


def test_a_refusal_that_cannot_be_read_is_a_faulty_peer(
    answers: list[tuple[int, bytes]], peer: PeerClient
) -> None:
    for _, body in sendable(wire.Refusal):
        answers.append((409, body))
        with pytest.raises(PeerFaulty, match=r"Elsewhere at .* gave an unreadable answer .* 409"):
            peer.status()


def test_an_answer_without_end_is_not_kept(
    answers: list[tuple[int, bytes]], peer: PeerClient
) -> None:
    answers.append((200, b" " * (wire.MESSAGE_LIMIT_BYTES + 1)))
    with pytest.raises(PeerFaulty, match="more than"):
        peer.status()


def test_a_receiver_that_lacks_what_it_was_not_offered_is_faulty(
    answers: list[tuple[int, bytes]], peer: PeerClient
) -> None:
    answers.append((200, json.dumps({"missing": [str(uuid.uuid4())]}).encode()))
    with pytest.raises(PeerFaulty, match="was not offered"):
        peer.missing_points(MACHINE_ID, [POINT_ID])
