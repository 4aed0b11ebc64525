"""What cores say to each other is what was meant, or it is refused with the field that is wrong."""

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.client import MachineDescription
from console.jobs.choices import JobState
from replication.errors import PeerFaulty
from replication.peers import wire
from tests.replication.messages import MESSAGES, example, messages, wrong_messages

POINT_ID = uuid.uuid4()
# Two versions of the product talk by these names. None is ever changed; a new one has a default.
FIELDS = {
    "Announcement": "machine_id boot_id port addresses",
    "Behind": "points bytes newest_point_at",
    "ChosenRescueMachine": "target_id",
    "Fellow": "core_id name host port certificate_pem secret secret_digest",
    "FellowAnswer": "ownership",
    "FoundRescueMachine": "target_id address description",
    "HeldFile": "held_bytes",
    "HeldFiles": "held_bytes",
    "HeldPoints": "point_ids",
    "JobOutputs": "reserve_point restore_disks",
    "JobStatus": (
        "job_id state step_title note done_bytes total_bytes error_code error_text outputs"
    ),
    "KeptPoint": "point_id",
    "MachineAnswer": "answers host port description",
    "MachineAddress": "host port description",
    "MissingPoints": "missing",
    "NamedPoint": "point_id",
    "Nothing": "",
    "Ownership": (
        "machine_id machine_name owner_core_id owner_core_name ownership_epoch owned_since"
    ),
    "OwnershipAnswer": (
        "machine_id machine_name owner_core_id owner_core_name ownership_epoch owned_since"
    ),
    "PairingAnswer": "pairing_id core_id name secret proof",
    "PairingChallenge": "salt nonce",
    "PairingRequest": ("pairing_id core_id name host port certificate_pem secret role nonce proof"),
    "PeerStatus": (
        "core_id name version is_paused paused_machine_ids ownership now host_for_machines fellows "
        "behind"
    ),
    "Refusal": (
        "code text machine_id machine_name owner_core_id owner_core_name ownership_epoch "
        "owned_since file_name held_bytes"
    ),
    "RescueAddress": "host port code",
    "RestoreRequest": "request_id target_id point_id since_point_id",
    "SendRequest": "machine_ids",
    "SentMachine": (
        "name host port agent_certificate_pem delegation_pem description "
        "snapshot_interval_seconds ownership_epoch owned_since newest_point_at behind_points "
        "behind_bytes fellow_core_ids point_ids"
    ),
    "SnapshotRequest": "request_id",
    "SoughtMachine": "target_id host port",
    "StartedSending": "started",
    "TakeOver": "host port description ownership_epoch owned_since",
    "WantedPoints": "point_ids",
    "WrittenDisks": "disks written_bytes",
}


def test_every_message_says_what_it_always_said() -> None:
    assert {kind.__name__: example(kind).keys() for kind in MESSAGES} == {
        name: dict.fromkeys(fields.split()).keys() for name, fields in FIELDS.items()
    }
    for kind in MESSAGES:
        assert kind.from_json(example(kind)).to_json().keys() == example(kind).keys(), kind


def test_what_is_not_known_is_left_out_or_null_as_ever() -> None:
    machine = wire.SentMachine(name="db-01", ownership_epoch=1).to_json()
    # Without it the receiver leaves the history as it is; an empty one marks every point.
    assert "point_ids" not in machine
    assert machine["newest_point_at"] is None
    status = wire.PeerStatus(core_id=POINT_ID, name="DR site").to_json()
    assert "behind" not in status
    restore = wire.RestoreRequest(request_id=POINT_ID, target_id=POINT_ID, point_id=POINT_ID)
    assert restore.to_json()["since_point_id"] is None
    job = wire.JobStatus(job_id=POINT_ID, state=JobState.RUNNING).to_json()
    assert (job["state"], job["outputs"], job["total_bytes"]) == ("running", {}, None)
    assert wire.OwnershipAnswer(ownership=None).to_json() == {"owner_core_id": ""}
    away = wire.MachineAnswer(address=None, text="not yet")
    assert away.to_json() == {"answers": False, "text": "not yet"}
    assert machine["description"] == MachineDescription().to_json()


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_what_is_written_is_read_again(kind: type[wire.Message], data: st.DataObject) -> None:
    message = data.draw(messages(kind))
    assert kind.from_json(message.to_json()) == message


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_what_a_newer_version_says_besides_is_ignored(kind: type[wire.Message]) -> None:
    valid = example(kind)
    assert kind.from_json({**valid, "news": [1]}) == kind.from_json(valid)


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_a_wrong_field_is_refused_by_its_name(kind: type[wire.Message]) -> None:
    kind.from_json(example(kind))
    for wrong in wrong_messages(kind):
        if wrong.is_forgiven:
            continue
        with pytest.raises(PeerFaulty) as refused:
            kind.from_json(wrong.message)
        assert re.split(r"\.|\[", wrong.field)[0] in refused.value.text, wrong


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b'{"name": NaN}',
        b'{"name": 1e999}',
        b'{"name": "\\ud800"}',
        b"[" * 100_000,
    ],
    ids=lambda data: repr(data[:20]),
)
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(PeerFaulty, match="not JSON"):
        wire.decode(data)


@pytest.mark.parametrize("text", [None, "", "-1", "1.5", "x", "9" * 19, "²"])
def test_a_slice_that_begins_nowhere_is_refused(text: str | None) -> None:
    with pytest.raises(PeerFaulty, match="offset_bytes"):
        wire.read_offset(text)
