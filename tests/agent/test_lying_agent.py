"""What the client makes of an agent that lies: a clear error, and nothing is believed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from agent.client import ParentDisk, SnapshotResult
from agent.errors import (
    AgentBusy,
    AgentGone,
    AgentRefusedCore,
    AgentUnreachable,
    HoldLost,
    ProtocolBroken,
    SnapshotFailed,
)
from agent.protocol import (
    DIGESTS_HEAD,
    DISK_DATA,
    DISK_DATA_HEAD,
    DISK_DIGESTS,
    HEADER,
    PARENT_DIGESTS,
    Channel,
)
from tests.agent.folder_sink import FolderSink, StreamDiffers
from tests.agent.hostile_agent import BEGIN, CAPACITY_BYTES, HELLO, KEY, TAKEN, hostile_agent
from tests.places.agent import Core

Frames = Callable[[Channel], None]
PARENT = ParentDisk(KEY, 0, "87654321", "../base/disk0.vmdk", CAPACITY_BYTES)


def control(**message: object) -> Frames:
    return lambda channel: channel.send_control(message)


def data(number: int, content: bytes) -> Frames:
    return lambda channel: channel.send(DISK_DATA, DISK_DATA_HEAD.pack(number), content)


def digests(number: int, first_grain: int, count: int) -> Frames:
    head = DIGESTS_HEAD.pack(number, first_grain)
    return lambda channel: channel.send(DISK_DIGESTS, head, bytes(16 * count))


def raw(content: bytes) -> Frames:
    return lambda channel: channel._send_bytes(content)


def finish(length_bytes: int, digest: str = "0" * 64) -> Frames:
    return control(type="finish_disk", number=0, length_bytes=length_bytes, digest=digest)


def need(first_grain: int, count: int) -> Frames:
    return control(type="need_parent_digests", number=0, first_grain=first_grain, count=count)


begin = control(**BEGIN)
begin_delta = control(**{**BEGIN, "has_parent": True})


def take(
    folder: Path,
    core: Core,
    *frames: Frames,
    parents: tuple[ParentDisk, ...] = (),
    hold_seconds: int = 0,
) -> SnapshotResult:
    """Take a point from an agent that sends these frames once it is asked."""

    def script(channel: Channel) -> None:
        channel.send_control(HELLO)
        channel.receive_control("take_snapshot")
        channel.send_control(TAKEN)
        for frame in frames:
            frame(channel)
        channel.receive()

    with hostile_agent(folder, core, script) as client:
        return client.take_snapshot(
            FolderSink(folder / "point"), parents, hold_seconds=hold_seconds
        )


LIES = {
    "data before a disk": (data(0, b"x"),),
    "data of another disk": (begin, data(1, b"x")),
    "a disk in a disk": (begin, control(**{**BEGIN, "number": 1, "key": "other"})),
    "a disk twice": (begin, finish(0, blake3(b"").hexdigest()), begin),
    "an unknown parent": (begin_delta,),
    "a capacity of no whole sectors": (control(**{**BEGIN, "capacity_bytes": 1000}),),
    "a capacity without limits": (control(**{**BEGIN, "capacity_bytes": 2**60}),),
    "a capacity that is text": (control(**{**BEGIN, "capacity_bytes": "8"}),),
    "a content id that is none": (control(**{**BEGIN, "cid": "../../xy"}),),
    "a key that is no text": (control(**{**BEGIN, "key": 3}),),
    "digests past the end": (begin, digests(0, 15, 2)),
    "digests backwards": (begin, digests(0, 4, 2), digests(0, 0, 1)),
    "digests that are cut": (
        begin,
        lambda channel: channel.send(DISK_DIGESTS, DIGESTS_HEAD.pack(0, 0), b"123"),
    ),
    "more data than the disk can need": (
        begin,
        *(data(0, bytes(1024 * 1024)) for _ in range(19)),
    ),
    "another length than arrived": (begin, data(0, b"12345"), finish(4)),
    "an end without disks": (control(type="snapshot_done"),),
    "an end in a disk": (begin, control(type="snapshot_done")),
    "a question about a base image": (begin, need(0, 1)),
    "progress past the total": (control(type="progress", done_bytes=2, total_bytes=1),),
    "an unknown message": (control(type="surprise"),),
    "a message without a type": (control(kind="progress"),),
    "an unknown kind of frame": (raw(HEADER.pack(9, 0)),),
    "a frame of 4 GB": (raw(HEADER.pack(DISK_DATA, 2**32 - 1)),),
    "no JSON": (raw(HEADER.pack(1, 3) + b"{{{"),),
    "the core's own kind of frame": (
        lambda channel: channel.send(PARENT_DIGESTS, DIGESTS_HEAD.pack(0, 0), bytes(16)),
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_frame_that_may_not_come_ends_the_point(lie: str, source: Core, tmp_path: Path) -> None:
    with pytest.raises(ProtocolBroken):
        take(tmp_path, source, *LIES[lie])


@pytest.mark.parametrize(("first_grain", "count"), [(0, 17), (16, 1), (0, 0), (-1, 1), (0, 10**9)])
def test_digests_that_the_parent_does_not_have_are_not_given(
    first_grain: int, count: int, source: Core, tmp_path: Path
) -> None:
    with pytest.raises(ProtocolBroken):
        take(tmp_path, source, begin, need(first_grain, count), parents=(PARENT,))


def test_a_delta_on_a_larger_parent_is_refused(source: Core, tmp_path: Path) -> None:
    smaller = control(**{**BEGIN, "has_parent": True, "capacity_bytes": 512})

    with pytest.raises(ProtocolBroken, match="without a known parent"):
        take(tmp_path, source, smaller, parents=(PARENT,))


def test_a_digest_that_differs_is_the_sinks_to_refuse(source: Core, tmp_path: Path) -> None:
    with pytest.raises(StreamDiffers):
        take(tmp_path, source, begin, data(0, b"12345"), finish(5))


def test_an_error_that_the_agent_reports_is_raised_as_what_it_is(
    source: Core, tmp_path: Path
) -> None:
    report = control(type="error", code="AGENT-VIEW-INVALID", text="memory ran out")

    with pytest.raises(SnapshotFailed, match="memory ran out") as caught:
        take(tmp_path, source, begin, report)
    assert caught.value.code == "AGENT-VIEW-INVALID"


def test_an_error_with_an_unknown_code_keeps_its_words(source: Core, tmp_path: Path) -> None:
    report = control(type="error", code="AGENT-FROM-LATER", text="something new")

    with pytest.raises(SnapshotFailed, match=r"something new \(AGENT-FROM-LATER\)"):
        take(tmp_path, source, report)


def test_an_error_whose_words_cannot_be_stored_is_still_told(source: Core, tmp_path: Path) -> None:
    report = control(type="error", code="AGENT-BUSY", text="file \udcff\0name")

    with pytest.raises(AgentBusy, match=r"file \?\?name"):
        take(tmp_path, source, report)


def test_a_description_out_of_bounds_is_refused(source: Core, tmp_path: Path) -> None:
    description = {"disks": [{"number": 0, "key": "a", "capacity_bytes": -1}]}

    def describe(channel: Channel) -> None:
        channel.send_control(HELLO)
        channel.receive_control("describe")
        channel.send_control({"type": "description", "description": description})
        channel.receive()

    def take_snapshot(channel: Channel) -> None:
        channel.send_control(HELLO)
        channel.receive_control("take_snapshot")
        channel.send_control({**TAKEN, "description": description})
        channel.receive()

    (tmp_path / "describe").mkdir()
    (tmp_path / "take").mkdir()
    wanted = r"disks\[0\]\.capacity_bytes is -1"
    with (
        hostile_agent(tmp_path / "describe", source, describe) as client,
        pytest.raises(ProtocolBroken, match=wanted),
    ):
        client.describe()
    with (
        hostile_agent(tmp_path / "take", source, take_snapshot) as client,
        pytest.raises(ProtocolBroken, match=wanted),
    ):
        client.take_snapshot(FolderSink(tmp_path / "point"))


def test_a_connection_cut_in_mid_stream_is_an_agent_gone(source: Core, tmp_path: Path) -> None:
    def cut(channel: Channel) -> None:
        channel.close()

    with pytest.raises(AgentGone):
        take(tmp_path, source, begin, data(0, b"12345"), cut)


def test_a_final_point_of_an_agent_that_holds_nothing_is_not_believed(
    source: Core, tmp_path: Path
) -> None:
    """As from an agent that is too old to know what a hold is."""
    frames = (begin, finish(0, blake3(b"").hexdigest()))
    with pytest.raises(HoldLost, match="cannot keep file systems frozen"):
        take(tmp_path, source, *frames, control(type="snapshot_done"), hold_seconds=60)


def test_an_agent_that_cannot_watch_is_why_whole_disks_are_read(
    source: Core, tmp_path: Path
) -> None:
    frames = (begin, finish(0, blake3(b"").hexdigest()))
    done = control(type="snapshot_done", is_held=True)

    result = take(tmp_path, source, *frames, done, hold_seconds=60)

    assert result.is_held
    assert result.why_whole == "the agent is from an older release"


def test_an_agent_of_another_protocol_is_named(source: Core, tmp_path: Path) -> None:
    def script(channel: Channel) -> None:
        channel.send_control({**HELLO, "protocol": 99})

    with (
        hostile_agent(tmp_path, source, script) as client,
        pytest.raises(AgentUnreachable, match="protocol 99"),
    ):
        client.describe()


def test_an_agent_that_trusts_nobody_any_more_is_a_refusal(source: Core, tmp_path: Path) -> None:
    def script(channel: Channel) -> None:
        channel.send_control({**HELLO, "is_trusted": False})

    with (
        hostile_agent(tmp_path, source, script) as client,
        pytest.raises(AgentRefusedCore, match="no longer trusts"),
    ):
        client.describe()
