"""The core interface refuses what is wrong, in JSON, and loses nothing by it."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agent.version import VERSION
from console.identity import this_core
from protected_machines.models import Machine
from replication.models import Pairing
from replication.pages.states import core_state
from tests.replication.calls import MACHINE, call
from tests.replication.rows import make_pairing, make_replica, make_replicated

pytestmark = pytest.mark.usefixtures("core_interface")


@pytest.fixture
def pairing(db: None) -> Pairing:
    return make_pairing(direction="incoming", peer_name="Headquarters")


@pytest.mark.parametrize(
    "path", ["/status", "/machines/6d6f0a4e-2b53-4a5e-9d0b-6a6c1c1f3f77/ownership"]
)
@pytest.mark.parametrize("how", ["nobody", "wrong secret", "another pairing"])
def test_only_a_paired_core_is_let_in(pairing: Pairing, path: str, how: str) -> None:
    if how == "nobody":
        answer = call("GET", path, None)
    elif how == "wrong secret":
        answer = call("GET", path, pairing, secret="x")
    else:
        answer = call("GET", path, Pairing(pk=uuid.uuid4()))
    assert answer.status_code == 401
    assert answer.json()["code"] == "REPLICATION-PEER-SECRET"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b"\xff", {"core_id": 1}, {**MACHINE, "ownership_epoch": "x"}, {"name": "x"}],
)
def test_a_body_that_cannot_be_read_is_400_and_nothing_is_made(pairing: Pairing, body: Any) -> None:
    answer = call("PUT", f"/machines/{uuid.uuid4()}", pairing, body)
    assert answer.status_code == 400
    assert answer.json()["text"]
    assert not Machine.objects.exists()


def test_an_unknown_address_is_answered_in_json(db: None) -> None:
    assert call("GET", "/nothing", None).status_code == 404


def test_the_status_says_who_answers_and_in_which_version(pairing: Pairing) -> None:
    status = call("GET", "/status", pairing).json()
    assert (status["core_id"], status["version"]) == (this_core().id, VERSION)


def test_the_first_metadata_makes_a_replica_of_the_source(pairing: Pairing) -> None:
    machine_id = uuid.uuid4()
    answer = call("PUT", f"/machines/{machine_id}", pairing, MACHINE)
    assert answer.status_code == 200
    assert answer.json()["owner_core_id"] == str(pairing.peer_core_id)
    machine = Machine.objects.get(pk=machine_id)
    assert (machine.kind, machine.owner_core_name) == ("replicated", "Headquarters")


def test_a_machine_of_another_owner_is_refused_with_who_since_and_epoch(pairing: Pairing) -> None:
    machine = make_replica(
        pairing, owner_core_id=uuid.uuid4(), owner_core_name="DR site", ownership_epoch=2
    )
    make_replicated(pairing, machine)
    for method, path, body in (
        ("PUT", "", MACHINE),
        ("POST", "/missing-points", {"point_ids": []}),
        ("POST", "/replicas", b"{}"),
        ("PUT", f"/replicas/{uuid.uuid4()}/files/disk0.vmdk?offset_bytes=0", b"x"),
        ("POST", f"/replicas/{uuid.uuid4()}/commit", {}),
    ):
        answer = call(method, f"/machines/{machine.pk}{path}", pairing, body)
        assert answer.status_code == 409, path
        said = answer.json()
        assert said["code"] == "REPLICATION-OWNED-ELSEWHERE"
        assert (said["owner_core_name"], said["ownership_epoch"]) == ("DR site", 2)
        assert said["owned_since"].startswith("2026-03-01T12:00:00")


def test_a_machine_of_another_pairing_is_not_reached(pairing: Pairing) -> None:
    stranger = make_replicated(make_pairing(direction="incoming"))
    answer = call(
        "POST", f"/machines/{stranger.machine_id}/missing-points", pairing, {"point_ids": []}
    )
    assert answer.status_code == 400
    answer = call("GET", f"/machines/{stranger.machine_id}/ownership", pairing)
    assert answer.json() == {"owner_core_id": ""}


@pytest.mark.parametrize("paused", ["pairing", "machine"])
def test_a_pause_here_refuses_and_says_where_to_resume(pairing: Pairing, paused: str) -> None:
    replicated = make_replicated(pairing)
    (pairing if paused == "pairing" else replicated).set_paused(True)
    answer = call("PUT", f"/machines/{replicated.machine_id}", pairing, MACHINE)
    assert answer.status_code == 409
    assert answer.json()["code"] == "REPLICATION-PEER-PAUSED"
    assert "Incoming Replication" in answer.json()["text"]


def test_a_damaged_manifest_is_refused_by_code(pairing: Pairing) -> None:
    replicated = make_replicated(pairing)
    answer = call("POST", f"/machines/{replicated.machine_id}/replicas", pairing, b'{"format": 1}')
    assert answer.status_code in (400, 422)
    assert answer.json()["code"].startswith("STORE-")


def test_a_slice_of_a_point_that_was_never_begun_is_refused(pairing: Pairing) -> None:
    replicated = make_replicated(pairing)
    path = f"/replicas/{uuid.uuid4()}/files/disk0.vmdk?offset_bytes=0"
    answer = call("PUT", f"/machines/{replicated.machine_id}{path}", pairing, b"x")
    assert answer.status_code == 400
    assert "Send its manifest first" in answer.json()["text"]


def test_a_target_brings_a_machine_back_to_its_source_and_owns_it_until_then(db: None) -> None:
    pairing = make_pairing(direction="outgoing")
    machine_id = uuid.uuid4()
    answer = call("PUT", f"/machines/{machine_id}", pairing, MACHINE)
    assert answer.json()["owner_core_id"] == str(pairing.peer_core_id)
    machine = Machine.objects.get(pk=machine_id)
    assert not machine.is_owned_here
    assert not machine.is_live


def test_a_target_cannot_claim_a_machine_that_its_source_owns(db: None) -> None:
    pairing = make_pairing(direction="outgoing")
    machine = make_replicated(pairing).machine
    answer = call("PUT", f"/machines/{machine.pk}", pairing, MACHINE)
    assert answer.json()["code"] == "REPLICATION-OWNED-ELSEWHERE"
    machine.refresh_from_db()
    assert machine.is_owned_here


def test_the_target_may_ask_its_source_to_send(db: None) -> None:
    pairing = make_pairing(direction="outgoing")
    replicated = make_replicated(pairing)
    answer = call("POST", "/force", pairing, {"machine_ids": []})
    assert answer.json() == {"started": [replicated.machine.name]}
    incoming = make_pairing(direction="incoming")
    assert call("POST", "/force", incoming, {"machine_ids": []}).status_code == 400


def test_the_first_call_that_fails_shows_though_the_source_has_just_called(
    pairing: Pairing,
) -> None:
    from replication.heartbeat import refresh_core

    assert call("GET", "/status", pairing).status_code == 200
    pairing.refresh_from_db()
    assert core_state(pairing, timezone.now()).text == "Online"
    for _ in range(2):
        assert not refresh_core(pairing)
        pairing.refresh_from_db()
        state = core_state(pairing, timezone.now())
        assert (state.tone, state.text) == ("warn", "Not responding")
        assert state.reason.endswith("is not responding: it refuses connections.")
        assert not pairing.is_reachable
        # It calls again: a firewall may let only its calls through. That says nothing of ours.
        Pairing.objects.update(heard_at=timezone.now() - timedelta(seconds=20))
        assert call("GET", "/status", pairing).status_code == 200
        pairing.refresh_from_db()
        assert core_state(pairing, timezone.now()).text == "Not responding"
    pairing.note_seen(timezone.now())
    assert core_state(pairing, timezone.now()).text == "Online"


def test_a_source_that_neither_answers_nor_calls_is_unreachable(pairing: Pairing) -> None:
    from replication.heartbeat import refresh_core

    Pairing.objects.update(heard_at=timezone.now() - timedelta(seconds=60))
    pairing.refresh_from_db()
    assert not refresh_core(pairing)
    pairing.refresh_from_db()
    assert core_state(pairing, timezone.now()).text == "Unreachable"


@pytest.mark.parametrize("path", ["/status", "/machines/6d6f0a4e-2b53-4a5e-9d0b-6a6c1c1f3f77"])
def test_json_nested_too_deep_is_refused(pairing: Pairing, path: str) -> None:
    answer = call("PUT" if "machines" in path else "POST", path, pairing, b"[" * 1_000_000)
    assert answer.status_code == 400
    assert answer.json()["code"] == "REPLICATION-PEER-FAULTY"


def test_a_small_message_has_a_small_limit(pairing: Pairing) -> None:
    answer = call("PUT", f"/machines/{uuid.uuid4()}", pairing, b" " * (4 * 1024 * 1024 + 1))
    assert answer.status_code == 400
    assert "the limit is" in answer.json()["text"]
