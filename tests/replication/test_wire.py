"""What cores say to each other is what was meant, or it is refused with the field that is wrong."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import PeerFaulty
from replication.peers import wire
from tests.replication.messages import MESSAGES, example, messages, wrong_messages


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
    with pytest.raises(PeerFaulty, match="no JSON"):
        wire.decode(data)


@pytest.mark.parametrize("text", [None, "", "-1", "1.5", "x", "9" * 19, "²"])
def test_a_slice_that_begins_nowhere_is_refused(text: str | None) -> None:
    with pytest.raises(PeerFaulty, match="offset_bytes"):
        wire.read_offset(text)
