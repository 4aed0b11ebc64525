"""The hold after a final point: frozen until power-off, release, or silence."""

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.client import AgentClient, SnapshotResult
from agent.errors import AgentBusy, AgentError, HoldLost
from agent.providers.freeze import Watchdog
from tests.agent.folder_sink import FolderSink
from tests.agent.test_snapshot import assert_same_disk
from tests.places.agent import MIB, Core, RunningAgent, trusted_core, write_disk
from tests.places.waiting import wait_until


@pytest.fixture
def client(agent: RunningAgent, source: Core) -> AgentClient:
    return agent.client(source, source.pair(agent))


@pytest.fixture
def sink(tmp_path: Path) -> FolderSink:
    return FolderSink(tmp_path / "final")


def frozen(agent: RunningAgent) -> list[bool]:
    return [Path(f"{path}.frozen").exists() for path in agent.disks.values()]


def hold(client: AgentClient, sink: FolderSink, seconds: int = 60) -> SnapshotResult:
    return client.take_snapshot(sink, hold_seconds=seconds)


def test_file_systems_stay_frozen_after_a_final_point(
    agent: RunningAgent, client: AgentClient, sink: FolderSink
) -> None:
    result = hold(client, sink)

    assert result.is_held
    assert frozen(agent) == [True, True]
    for disk in sink.disks.values():
        assert_same_disk(disk.path, agent.disks[disk.key])


def locked_kib(process_id: int) -> int:
    status = Path(f"/proc/{process_id}/status").read_text()
    return int(status.partition("VmLck:")[2].split()[0])


def test_agent_and_watchdog_stay_in_memory_as_long_as_it_lasts(
    agent: RunningAgent, client: AgentClient, sink: FolderSink
) -> None:
    """A page that left would have to come from a disk that is frozen."""
    assert agent.process is not None
    agent_id = agent.process.pid
    assert locked_kib(agent_id) == 0

    hold(client, sink)

    assert locked_kib(agent_id) > 0
    assert locked_kib(watchdog_of(agent)) > 0
    client.release_hold()
    assert locked_kib(agent_id) == 0


def watchdog_of(agent: RunningAgent) -> int:
    """Return the id of the agent's only child."""
    assert agent.process is not None
    tasks = Path(f"/proc/{agent.process.pid}/task")
    found: list[int] = []

    def is_found() -> bool:
        found.clear()
        for task in tasks.iterdir():
            with contextlib.suppress(OSError):  # the thread has ended; its child is another's now
                found.extend(map(int, (task / "children").read_text().split()))
        return len(found) == 1

    wait_until(is_found)
    return found[0]


def test_an_ordinary_point_freezes_nothing_beyond_its_end(
    agent: RunningAgent, client: AgentClient, sink: FolderSink
) -> None:
    result = client.take_snapshot(sink)

    assert not result.is_held
    assert frozen(agent) == [False, False]
    with pytest.raises(HoldLost, match="never were"):
        client.extend_hold()


def test_they_are_frozen_while_the_point_is_read(
    agent: RunningAgent, client: AgentClient, sink: FolderSink
) -> None:
    seen: list[list[bool]] = []

    client.take_snapshot(sink, progress=lambda *_: seen.append(frozen(agent)), hold_seconds=60)

    assert seen
    assert all(marks == [True, True] for marks in seen)


def test_releasing_thaws_and_may_be_done_again(
    agent: RunningAgent, client: AgentClient, sink: FolderSink
) -> None:
    hold(client, sink)

    assert client.release_hold()
    assert frozen(agent) == [False, False]
    assert not client.release_hold()
    with pytest.raises(HoldLost):
        client.extend_hold()


class Pace:
    """The longest pause between two beats: a busy computer may pause for longer than a limit."""

    def __init__(self) -> None:
        self.longest_seconds = 0.0
        self._beat_at = time.monotonic()

    def beat(self) -> None:
        now = time.monotonic()
        self.longest_seconds = max(self.longest_seconds, now - self._beat_at)
        self._beat_at = now


def keep_in_time(limit_seconds: float, attempt: Callable[[Pace], None]) -> None:
    """Attempt it, and again whenever this computer was too busy to keep the limit."""

    def is_done() -> bool:
        pace = Pace()
        try:
            attempt(pace)
        except (HoldLost, AssertionError):
            pace.beat()
            if pace.longest_seconds < limit_seconds / 2:
                raise
            return False
        return True

    wait_until(is_done, "a quiet moment", limit_seconds=300)


def test_silence_beyond_the_limit_thaws(
    agent: RunningAgent, client: AgentClient, tmp_path: Path
) -> None:
    keep_in_time(1, lambda _pace: hold(client, FolderSink(tmp_path / str(time.time())), 1))

    wait_until(lambda: frozen(agent) == [False, False])

    with pytest.raises(HoldLost):
        client.extend_hold()
    assert not client.release_hold()


def test_extending_a_hold_keeps_it_frozen_and_says_until_when(
    agent: RunningAgent, client: AgentClient, tmp_path: Path
) -> None:
    untils: list[float] = []

    def extend_beyond_the_limit(pace: Pace) -> None:
        hold(client, FolderSink(tmp_path / str(time.time())), seconds=3)
        ends_at = time.monotonic() + 4
        pace.beat()
        while time.monotonic() < ends_at:
            before = time.time()
            untils.append(client.extend_hold().at.timestamp())
            assert before + 3 <= untils[-1] <= time.time() + 3
            assert frozen(agent) == [True, True]
            time.sleep(0.3)
            pace.beat()

    keep_in_time(3, extend_beyond_the_limit)

    wait_until(lambda: frozen(agent) == [False, False])
    assert time.time() >= untils[-1]


class Lost(Exception):
    """What a core raises in mid-stream."""


@pytest.fixture
def large(agent: RunningAgent, source: Core) -> AgentClient:
    """A client of the agent whose disk does not fit into any socket's buffers."""
    paired = source.pair(agent)
    agent.stop()
    agent.disks = {"large": write_disk(agent.folder / "large.raw", 96 * MIB, 96 * MIB)}
    agent.start()
    return agent.client(source, paired)


def test_a_core_that_goes_in_mid_stream_thaws_at_once(
    agent: RunningAgent, large: AgentClient, sink: FolderSink
) -> None:
    def lose(_done_bytes: int, _total_bytes: int) -> None:
        assert frozen(agent) == [True]
        raise Lost

    with pytest.raises(Lost):
        large.take_snapshot(sink, progress=lose, hold_seconds=900)

    wait_until(lambda: frozen(agent) == [False])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_agent_that_ends_leaves_nothing_frozen(
    number: signal.Signals, agent: RunningAgent, client: AgentClient, sink: FolderSink
) -> None:
    hold(client, sink, seconds=900)

    agent.stop(number)

    wait_until(lambda: frozen(agent) == [False, False])
    agent.start()
    assert not client.release_hold()
    assert not client.take_snapshot(FolderSink(sink.folder.parent / "next")).is_held


def test_while_held_ordinary_points_pairing_and_trust_have_to_wait(
    agent: RunningAgent, client: AgentClient, sink: FolderSink, target: Core
) -> None:
    hold(client, sink)

    with pytest.raises(AgentBusy, match="held frozen after a final point of core 'source-core'"):
        client.take_snapshot(FolderSink(sink.folder.parent / "other"))
    with pytest.raises(AgentBusy, match="nothing can be changed"):
        client.trust(target.certificate_pem, target.name)
    with pytest.raises(AgentBusy, match="nothing can be changed"):
        target.pair(agent)

    assert frozen(agent) == [True, True]
    assert client.extend_hold()


def test_a_final_point_may_be_taken_again_by_the_same_core_only(
    agent: RunningAgent, client: AgentClient, sink: FolderSink, tmp_path: Path
) -> None:
    other = trusted_core(agent, client, tmp_path)
    hold(client, sink)

    with pytest.raises(AgentBusy):
        hold(other, FolderSink(tmp_path / "others"))
    again = FolderSink(tmp_path / "again")
    result = hold(client, again)

    assert result.is_held
    assert frozen(agent) == [True, True]
    assert again.finished == {0, 1}


def test_while_held_the_agent_needs_no_file_and_writes_no_log(
    agent: RunningAgent, client: AgentClient, sink: FolderSink
) -> None:
    client.describe()
    hold(client, sink)
    log_before = agent.log()
    moved = agent.folder / "state-moved-away"
    (agent.folder / "state").rename(moved)

    description = client.describe()
    client.extend_hold()
    log_while_held = agent.log()
    moved.rename(agent.folder / "state")
    assert client.release_hold()

    assert [disk.key for disk in description.disks] == ["boot", "data"]
    assert log_while_held == log_before
    wait_until(lambda: "type=extend_hold" in agent.log())
    assert "hold over" in agent.log()


def test_a_watchdog_of_an_agent_keeps_no_connection_open(
    agent: RunningAgent, client: AgentClient, sink: FolderSink
) -> None:
    """Else a core would never learn that the connection was closed."""
    hold(client, sink)
    links = [str(link.readlink()) for link in Path(f"/proc/{watchdog_of(agent)}/fd").iterdir()]
    assert not any(link.startswith("socket:") for link in links)


def test_a_slow_reader_within_the_limit_keeps_the_hold(large: AgentClient, tmp_path: Path) -> None:
    def read_slowly(pace: Pace) -> None:
        reports = 0

        def slow(_done_bytes: int, _total_bytes: int) -> None:
            nonlocal reports
            reports += 1
            time.sleep(0.5)
            pace.beat()

        sink = FolderSink(tmp_path / str(time.time()))
        assert large.take_snapshot(sink, (), slow, hold_seconds=2).is_held
        assert reports >= 2

    keep_in_time(2, read_slowly)


def test_a_reader_that_stalls_beyond_the_limit_loses_the_hold(
    agent: RunningAgent, large: AgentClient, tmp_path: Path
) -> None:
    class StallingSink(FolderSink):
        has_stalled = False

        def write(self, number: int, data: memoryview) -> None:
            if not self.has_stalled:
                self.has_stalled = True
                wait_until(lambda: frozen(agent) == [False])
            super().write(number, data)

    with pytest.raises(HoldLost, match="nothing was heard from the core for 1 seconds"):
        large.take_snapshot(StallingSink(tmp_path / "stalled"), hold_seconds=1)


def test_a_watchdog_hears_that_the_limit_starts_again(tmp_path: Path) -> None:
    started: list[Watchdog] = []
    trace = tmp_path / "rescued"

    def extend_beyond_the_limit(pace: Pace) -> None:
        trace.unlink(missing_ok=True)
        watchdog = Watchdog(2, trace.touch)
        started.append(watchdog)
        for _ in range(6):
            time.sleep(0.4)
            assert watchdog.extend()
            pace.beat()
        assert watchdog.is_armed()
        assert not trace.exists()

    keep_in_time(2, extend_beyond_the_limit)
    watchdog = started[-1]
    wait_until(lambda: not watchdog.is_armed())

    assert trace.exists()
    assert not watchdog.extend()
    with pytest.raises(AgentError):
        watchdog.stand_down()
