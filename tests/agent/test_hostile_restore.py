"""Frames of a restore that may not come, from either side."""

import os
import secrets
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from agent.client.connection import connected, receive_message
from agent.errors import AgentError, ProtocolBroken, RestoreFailed
from agent.protocol import (
    HEADER,
    MAX_RUN_BYTES,
    PARENT_DIGESTS,
    RESTORE_RUN,
    RUN_HEAD,
    Channel,
    Data,
    run_payload,
)
from recovery_store.vmdk.deflate import deflate
from tests.agent.hostile_agent import HELLO, hostile_agent
from tests.agent.raw_plan import RawPlan
from tests.places.agent import MIB, Core, RunningAgent, blank_disk, rescue_machine, write_disk

GRAIN_BYTES = 64 * 1024
GRAIN = deflate(os.urandom(GRAIN_BYTES))
GRAINS = 128  # of the disk that is asked for: 8 MiB
Act = Callable[[Channel], object]


def run(first_grain: int, *grains: bytes) -> Act:
    return lambda channel: channel.send(RESTORE_RUN, *run_payload(first_grain, grains))


def made_run(first_grain: int, count: int, lengths: list[int], data: bytes) -> Act:
    """Make a run whose digest fits, whatever it says of itself."""
    packed = struct.pack(f">{len(lengths)}I", *lengths)
    digest = blake3(first_grain.to_bytes(8, "big") + packed + data).digest()
    payload = RUN_HEAD.pack(first_grain, count, digest) + packed + data
    return lambda channel: channel.send(RESTORE_RUN, payload)


def flipped(first_grain: int, place: int) -> Act:
    """Send a run of which one bit was lost on the way."""
    parts: list[Data] = run_payload(first_grain, [GRAIN])
    payload = bytearray(b"".join(bytes(part) for part in parts))
    payload[place] ^= 1
    return lambda channel: channel.send(RESTORE_RUN, payload)


def control(**message: object) -> Act:
    return lambda channel: channel.send_control(message)


def raw(data: bytes) -> Act:
    return lambda channel: channel._send_bytes(data)


LIES: dict[str, tuple[Act, ...]] = {
    "a grain past the end": (run(GRAINS, GRAIN),),
    "a run over the end": (run(GRAINS - 1, GRAIN, GRAIN),),
    "a grain without limits": (run(2**64 - 1, GRAIN),),
    "runs backwards": (run(5, GRAIN), run(4, GRAIN)),
    "a run twice": (run(5, GRAIN), run(5, GRAIN)),
    "an empty run": (made_run(0, 0, [], b""),),
    "more grains than a run may have": (made_run(0, 65, [1] * 65, bytes(65)),),
    "65535 grains in a short frame": (made_run(0, 65535, [], b""),),
    "lengths past the frame": (made_run(0, 2, [10, 2**32 - 1], bytes(20)),),
    "lengths short of the frame": (made_run(0, 1, [10], bytes(11)),),
    "a run without its head": (lambda channel: channel.send(RESTORE_RUN, b"short"),),
    "another first grain": (flipped(0, 7),),
    "another count": (flipped(0, 9),),
    "another digest": (flipped(0, 20),),
    "another length": (flipped(0, RUN_HEAD.size + 3),),
    "other data": (flipped(0, RUN_HEAD.size + 1000),),
    "a frame that is too long": (raw(HEADER.pack(RESTORE_RUN, 2 * MAX_RUN_BYTES)),),
    "zeros past the end": (control(type="zero_run", first_grain=127, grains=2),),
    "no zeros": (control(type="zero_run", first_grain=0, grains=0),),
    "zeros backwards": (run(5, GRAIN), control(type="zero_run", first_grain=0, grains=3)),
    "negative zeros": (control(type="zero_run", first_grain=-1, grains=3),),
    "zeros without a place": (control(type="zero_run", grains=3),),
    "another request": (control(type="describe"),),
    "another kind of frame": (lambda channel: channel.send(PARENT_DIGESTS, bytes(26)),),
}


@pytest.fixture(scope="module")
def rescue(
    tmp_path_factory: pytest.TempPathFactory, make_core: Callable[[str], Core]
) -> Iterator[RunningAgent]:
    """One for all: what it refuses must not hurt what comes next either."""
    with rescue_machine(tmp_path_factory.mktemp("hostile") / "rescue") as running:
        make_core("source-core").pair(running)
        yield running


def begin(**changes: object) -> Act:
    return control(
        **{
            "type": "restore_disk",
            "number": 0,
            "capacity_bytes": 8 * MIB,
            "token": secrets.token_hex(8),
            "since_token": None,
            **changes,
        }
    )


def ask(rescue: RunningAgent, core: Core, *acts: Act) -> None:
    """Do all of it, and then hear what the agent says until it is done or raises."""
    with connected("127.0.0.1", rescue.port, core.credentials, 30) as (channel, _):
        acts[0](channel)
        receive_message(channel, "restore_ready")
        for act in acts[1:]:
            act(channel)
        while receive_message(channel, "written", "disk_done")["type"] != "disk_done":
            pass


@pytest.mark.parametrize("lie", LIES)
def test_a_frame_that_may_not_come_ends_the_restore(
    lie: str, rescue: RunningAgent, source: Core
) -> None:
    blank_disk(rescue.disks["first"], 8 * MIB)

    with pytest.raises(ProtocolBroken):
        ask(rescue, source, begin(), *LIES[lie], control(type="finish_disk"))

    # What was on the disk behind it is not touched, and the disk is not done.
    assert not any(rescue.disks["first"].read_bytes()[6 * GRAIN_BYTES :])
    with pytest.raises(AgentError, match="not been restored completely"):
        finish(rescue, source)


def finish(rescue: RunningAgent, core: Core) -> None:
    with connected("127.0.0.1", rescue.port, core.credentials, 30) as (channel, _):
        channel.send_control({"type": "restart_from_disk"})
        receive_message(channel, "restarting")


@pytest.mark.parametrize(
    "grain",
    [
        b"",
        b"nonsense",
        GRAIN[:-1],
        GRAIN + b"more",
        zlib.compress(bytes(GRAIN_BYTES - 1)),
        zlib.compress(bytes(MIB * 100), 9),
    ],
    ids=["nothing", "nonsense", "cut", "more behind", "too little", "a bomb"],
)
def test_a_grain_that_is_none_fails(grain: bytes, rescue: RunningAgent, source: Core) -> None:
    with pytest.raises(RestoreFailed):
        ask(rescue, source, begin(), run(0, GRAIN, grain), control(type="finish_disk"))


@pytest.mark.parametrize(
    "changes",
    [
        {"number": -1},
        {"number": "0"},
        {"number": 2},
        {"capacity_bytes": 0},
        {"capacity_bytes": 1000},
        {"capacity_bytes": 2**60},
        {"capacity_bytes": 8.0 * MIB},
        {"token": ""},
        {"token": None},
        {"token": "x" * 101},
        {"since_token": 3},
        {"since_token": ""},
    ],
    ids=str,
)
def test_a_request_that_makes_no_sense_is_refused_and_writes_nothing(
    changes: dict[str, object], rescue: RunningAgent, source: Core
) -> None:
    before = os.urandom(MIB)
    rescue.disks["first"].write_bytes(before + bytes(7 * MIB))

    with pytest.raises(AgentError):
        ask(rescue, source, begin(**changes), control(type="finish_disk"))

    assert rescue.disks["first"].read_bytes()[:MIB] == before


READY = {"type": "restore_ready", "next_grain": 0, "is_done": False, "is_resumed": False}
DONE = {"type": "disk_done", "next_grain": 32}
AGENT_LIES: dict[str, tuple[dict[str, object], ...]] = {
    "a start past the end": ({**READY, "next_grain": 33},),
    "a negative start": ({**READY, "next_grain": -1},),
    "a start that is text": ({**READY, "next_grain": "0"},),
    "done that is text": ({**READY, "is_done": "yes"},),
    "no start": (DONE,),
    "written past the end": (READY, {"type": "written", "next_grain": 33}),
    "written backwards": (
        READY,
        {"type": "written", "next_grain": 9},
        {"type": "written", "next_grain": 8},
    ),
    "done in the middle": (READY, DONE),
    "something else": (READY, {"type": "progress"}),
}


@pytest.mark.parametrize("lie", AGENT_LIES)
def test_an_agent_that_lies_is_not_believed(lie: str, source: Core, tmp_path: Path) -> None:
    told = threading.Event()
    image = write_disk(tmp_path / "image.raw", 2 * MIB, MIB)
    # The lie is there before the core begins to send.
    plan = RawPlan(image, before_run=lambda _grain: told.wait(30))

    with (
        hostile_agent(tmp_path, source, answering(*AGENT_LIES[lie], told=told)) as client,
        pytest.raises(ProtocolBroken),
    ):
        client.restore_disk(0, plan, "point")


def answering(
    *messages: dict[str, object], told: threading.Event | None = None
) -> Callable[[Channel], None]:
    def script(channel: Channel) -> None:
        channel.send_control(HELLO)
        channel.receive_control("restore_disk")
        for message in messages:
            channel.send_control(message)
        if told is not None:
            told.set()
        channel.drain(10)

    return script


def test_a_disk_that_is_done_without_all_of_it_is_not_believed(
    source: Core, tmp_path: Path
) -> None:
    plan = RawPlan(write_disk(tmp_path / "image.raw", 2 * MIB, MIB))

    def script(channel: Channel) -> None:
        channel.send_control(HELLO)
        channel.receive_control("restore_disk")
        channel.send_control(READY)
        while channel.receive().kind == RESTORE_RUN:
            pass
        channel.send_control({"type": "disk_done", "next_grain": 31})

    with (
        hostile_agent(tmp_path, source, script) as client,
        pytest.raises(ProtocolBroken, match="next_grain is '31'"),
    ):
        client.restore_disk(0, plan, "point")


def test_what_the_agent_reports_in_mid_stream_is_raised(source: Core, tmp_path: Path) -> None:
    plan = RawPlan(write_disk(tmp_path / "image.raw", 64 * MIB, 64 * MIB))
    report = {"type": "error", "code": "AGENT-RESTORE-FAILED", "text": "the disk is broken"}

    with (
        hostile_agent(tmp_path, source, answering(READY, report)) as client,
        pytest.raises(RestoreFailed, match="the disk is broken"),
    ):
        client.restore_disk(0, plan, "point")


def test_a_state_that_makes_no_sense_is_not_believed(source: Core, tmp_path: Path) -> None:
    def script(channel: Channel) -> None:
        channel.send_control(HELLO)
        channel.receive_control("restore_state")
        channel.send_control({"type": "restore_state", "disks": [{"number": 0}]})

    with hostile_agent(tmp_path, source, script) as client, pytest.raises(ProtocolBroken):
        client.restore_state("point")
