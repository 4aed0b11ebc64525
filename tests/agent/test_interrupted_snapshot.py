"""The agent or the core dies while a point is taken, or a second point is requested."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.client import PairedAgent
from agent.errors import AgentBusy, AgentGone
from tests.agent.folder_sink import FolderSink
from tests.places.agent import MIB, Core, RunningAgent

LIMIT_SECONDS = 30


class StoppedInside:
    """A progress callback that stops in mid-stream until it is let go."""

    def __init__(self, after_bytes: int) -> None:
        self._after_bytes = after_bytes
        self.is_inside = threading.Event()
        self.may_go_on = threading.Event()

    def write(self, _number: int, data: memoryview) -> None:
        self._after_bytes -= len(data)
        if self._after_bytes < 0 and not self.is_inside.is_set():
            self.is_inside.set()
            assert self.may_go_on.wait(LIMIT_SECONDS)


class SlowSink(FolderSink):
    """A sink that stops in mid-stream."""

    def __init__(self, folder: Path, stop: StoppedInside) -> None:
        super().__init__(folder)
        self._stop = stop

    def write(self, number: int, data: memoryview) -> None:
        super().write(number, data)
        self._stop.write(number, data)


@pytest.fixture
def large(agent: RunningAgent, source: Core) -> PairedAgent:
    """The agent with a disk that does not fit into any socket's buffers."""
    paired = source.pair(agent)
    agent.stop()
    path = agent.folder / "large.raw"
    path.write_bytes(os.urandom(48 * MIB))
    agent.disks = {"large": path}
    agent.start()
    return paired


def in_background(act: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, failures


def test_an_agent_killed_in_mid_stream_is_a_clear_error(
    agent: RunningAgent, source: Core, large: PairedAgent, tmp_path: Path
) -> None:
    stop = StoppedInside(8 * MIB)
    sink = SlowSink(tmp_path / "point", stop)
    thread, failures = in_background(lambda: agent.client(source, large).take_snapshot(sink))
    assert stop.is_inside.wait(LIMIT_SECONDS)

    agent.stop(signal.SIGKILL)
    stop.may_go_on.set()
    thread.join(LIMIT_SECONDS)

    assert [type(failure) for failure in failures] == [AgentGone]
    assert not sink.finished


def test_a_second_point_at_the_same_time_is_refused_with_who_and_since(
    agent: RunningAgent, source: Core, large: PairedAgent, tmp_path: Path
) -> None:
    stop = StoppedInside(8 * MIB)
    sink = SlowSink(tmp_path / "first", stop)
    thread, failures = in_background(lambda: agent.client(source, large).take_snapshot(sink))
    assert stop.is_inside.wait(LIMIT_SECONDS)

    with pytest.raises(AgentBusy, match="core 'source-core', since 20"):
        agent.client(source, large).take_snapshot(FolderSink(tmp_path / "second"))
    stop.may_go_on.set()
    thread.join(LIMIT_SECONDS)

    assert failures == []
    assert sink.finished == {0}


def test_what_progress_raises_ends_the_point_and_frees_the_agent(
    agent: RunningAgent, source: Core, large: PairedAgent, tmp_path: Path
) -> None:
    class Cancelled(Exception):
        pass

    def cancel(_done_bytes: int, _total_bytes: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        agent.client(source, large).take_snapshot(FolderSink(tmp_path / "first"), (), cancel)

    take_when_free(agent, source, large, tmp_path / "second")


def test_a_core_killed_in_mid_stream_frees_the_agent(
    agent: RunningAgent, source: Core, large: PairedAgent, tmp_path: Path
) -> None:
    certificate = tmp_path / "agent.pem"
    certificate.write_text(large.certificate_pem)
    core = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.agent.core_that_hangs",
            str(agent.port),
            str(source.credentials.certificate_path),
            str(source.credentials.key_path),
            str(certificate),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert core.stdout is not None
    assert core.stdout.readline() == "in mid-stream\n"

    core.kill()
    core.wait(LIMIT_SECONDS)
    core.stdout.close()

    take_when_free(agent, source, large, tmp_path / "second")


def take_when_free(agent: RunningAgent, core: Core, paired: PairedAgent, folder: Path) -> None:
    """Take a whole point as soon as the agent has noticed that the last core is gone."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while True:
        sink = FolderSink(folder)
        try:
            agent.client(core, paired).take_snapshot(sink)
        except AgentBusy:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            assert sink.finished == {0}
            return
