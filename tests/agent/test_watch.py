"""The watch after a point: a final point reads only what it names, or all if it is over."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.client import AgentClient, SnapshotResult
from agent.errors import AgentBusy, SnapshotFailed
from agent.protocol import GRAIN_BYTES
from agent.providers.watch import Watch
from tests.agent.folder_sink import FolderSink
from tests.agent.test_snapshot import assert_same_disk, overwrite
from tests.places.agent import Core, RunningAgent, trusted_core, two_disks_agent
from tests.places.waiting import wait_until


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[RunningAgent]:
    """An agent that can watch its two disks."""
    with two_disks_agent(tmp_path / "agent", "tests.agent.watching_agent") as running:
        yield running


@pytest.fixture
def client(watching: RunningAgent, source: Core) -> AgentClient:
    return watching.client(source, source.pair(watching))


@pytest.fixture
def running_point(watching: RunningAgent, client: AgentClient, tmp_path: Path) -> FolderSink:
    """The last point that is taken while the machine runs, with a watch after it."""
    sink = FolderSink(tmp_path / "running")
    result = client.take_snapshot(sink, watch_seconds=600)
    assert result.is_watched
    assert result.why_whole == ""
    assert is_watched(watching)
    return sink


def is_watched(agent: RunningAgent) -> bool:
    return any(Path(f"{path}.watched").exists() for path in agent.disks.values())


def write(agent: RunningAgent, key: str, grain: int, data: bytes, is_noted: bool = True) -> None:
    overwrite(agent.disks[key], grain * GRAIN_BYTES, data)
    if is_noted:
        with Path(f"{agent.disks[key]}.notes").open("a") as notes:
            notes.write(f"{grain} 1\n")


def take_final(
    client: AgentClient, parent: FolderSink, name: str = "final"
) -> tuple[FolderSink, SnapshotResult]:
    sink = FolderSink(parent.folder.parent / name, parent)
    result = client.take_snapshot(sink, sink.parent_disks(), hold_seconds=60)
    assert result.is_held
    return sink, result


def assert_reads_all(agent: RunningAgent, final: FolderSink) -> None:
    """Unreported writes are in it too."""
    for disk in final.disks.values():
        assert_same_disk(disk.path, agent.disks[disk.key])


def test_a_final_point_reads_only_what_was_written_since(
    watching: RunningAgent, client: AgentClient, running_point: FolderSink
) -> None:
    write(watching, "boot", 3, b"changed")
    write(watching, "boot", 127, b"at the end")
    write(watching, "boot", 5, bytes(GRAIN_BYTES))
    write(watching, "data", 48, b"x" * 512)

    final, result = take_final(client, running_point)

    assert result.why_whole == ""
    assert_reads_all(watching, final)
    client.release_hold()
    wait_until(lambda: "snapshot done" in watching.log())
    assert "number=0 key=boot is_delta=True read_grains=3 " in watching.log()
    assert "number=1 key=data is_delta=True read_grains=1 " in watching.log()
    assert not is_watched(watching)


def test_what_is_not_named_is_the_parents_by_definition(
    watching: RunningAgent, client: AgentClient, running_point: FolderSink, tmp_path: Path
) -> None:
    before = tmp_path / "before.raw"
    shutil.copy(watching.disks["boot"], before)
    write(watching, "boot", 7, b"not reported", is_noted=False)

    final, _ = take_final(client, running_point)

    assert_same_disk(final.disks[0].path, before)


def test_nothing_written_is_a_point_without_grains(
    client: AgentClient, running_point: FolderSink
) -> None:
    final, result = take_final(client, running_point)

    assert result.why_whole == ""
    assert final.finished == {0, 1}
    assert all(disk.path.stat().st_size < GRAIN_BYTES * 2 for disk in final.disks.values())
    for number, disk in final.disks.items():
        assert disk.digests == running_point.disks[number].digests


def test_a_watch_that_was_lost_has_all_read_and_says_so(
    watching: RunningAgent, client: AgentClient, running_point: FolderSink
) -> None:
    write(watching, "boot", 7, b"not reported", is_noted=False)
    Path(f"{watching.disks['data']}.lost").touch()

    final, result = take_final(client, running_point)

    assert result.why_whole == "more was written than its memory can hold"
    assert_reads_all(watching, final)
    assert not is_watched(watching)


def test_an_agent_that_was_restarted_has_all_read(
    watching: RunningAgent, client: AgentClient, running_point: FolderSink
) -> None:
    watching.restart()
    assert not is_watched(watching)
    write(watching, "boot", 7, b"not reported", is_noted=False)

    final, result = take_final(client, running_point)

    assert result.why_whole == "no earlier point was watched"
    assert_reads_all(watching, final)


def test_an_ordinary_point_ends_the_watch(
    watching: RunningAgent, client: AgentClient, running_point: FolderSink, tmp_path: Path
) -> None:
    other = FolderSink(tmp_path / "other", running_point)
    assert not client.take_snapshot(other, other.parent_disks()).is_watched

    assert not is_watched(watching)
    final, result = take_final(client, running_point)
    assert result.why_whole == "no earlier point was watched"
    assert_reads_all(watching, final)


def test_a_watched_point_begins_a_new_watch(
    watching: RunningAgent, client: AgentClient, running_point: FolderSink, tmp_path: Path
) -> None:
    write(watching, "boot", 7, b"before the second")
    second = FolderSink(tmp_path / "second", running_point)
    assert client.take_snapshot(second, second.parent_disks(), watch_seconds=600).is_watched
    write(watching, "boot", 9, b"after it")

    final, result = take_final(client, second)

    assert result.why_whole == ""
    assert_reads_all(watching, final)
    client.release_hold()
    assert "key=boot is_delta=True read_grains=1 " in watching.log()


@pytest.mark.parametrize("parent_name", ["none", "older", "one disk"])
def test_another_parent_has_all_read(
    parent_name: str,
    watching: RunningAgent,
    client: AgentClient,
    tmp_path: Path,
) -> None:
    older = FolderSink(tmp_path / "older")
    client.take_snapshot(older)
    running = FolderSink(tmp_path / "running", older)
    client.take_snapshot(running, running.parent_disks(), watch_seconds=600)
    write(watching, "boot", 7, b"not reported", is_noted=False)
    final = FolderSink(tmp_path / "final", older if parent_name == "older" else running)
    parents = {
        "none": [],
        "older": final.parent_disks(),
        "one disk": final.parent_disks()[:1],
    }[parent_name]

    result = client.take_snapshot(final, parents, hold_seconds=60)

    assert result.why_whole == "the watch followed a different parent point"
    assert not is_watched(watching)
    if parent_name != "one disk":
        assert_reads_all(watching, final)


def test_a_watch_ends_by_itself(
    watching: RunningAgent, client: AgentClient, tmp_path: Path
) -> None:
    running = FolderSink(tmp_path / "running")
    assert client.take_snapshot(running, watch_seconds=1).is_watched

    wait_until(lambda: not is_watched(watching))
    final, result = take_final(client, running)

    assert result.why_whole == "its 1 seconds have passed"
    assert_reads_all(watching, final)
    assert not client.end_watch()


def test_a_core_may_end_it(
    watching: RunningAgent, client: AgentClient, running_point: FolderSink
) -> None:
    assert client.end_watch()

    assert not is_watched(watching)
    assert not client.end_watch()
    _, result = take_final(client, running_point)
    assert result.why_whole == "the core ended it"


class Lost(Exception):
    """What a core raises in mid-stream."""


def break_off(client: AgentClient, parent: FolderSink, **wanted: int) -> None:
    """Begin a point and leave it in mid-stream."""

    def lose(_done_bytes: int, _total_bytes: int) -> None:
        raise Lost

    broken = FolderSink(parent.folder.parent / "broken", parent)
    with pytest.raises(Lost):
        client.take_snapshot(broken, broken.parent_disks(), lose, **wanted)


def test_a_point_that_breaks_off_leaves_no_watch(
    watching: RunningAgent, client: AgentClient, running_point: FolderSink
) -> None:
    break_off(client, running_point, watch_seconds=600)

    wait_until(lambda: not is_watched(watching))


def test_a_final_point_that_breaks_off_ends_the_watch_and_is_taken_again(
    watching: RunningAgent, client: AgentClient, running_point: FolderSink
) -> None:
    break_off(client, running_point, hold_seconds=60)
    wait_until(lambda: not is_watched(watching))
    write(watching, "boot", 7, b"after the thaw", is_noted=False)
    taken: list[FolderSink] = []

    def take_again() -> bool:
        try:
            taken.append(take_final(client, running_point)[0])
        except AgentBusy:  # with letting go of the one that broke off
            return False
        return True

    wait_until(take_again)
    assert_reads_all(watching, taken[0])


def test_an_agent_that_ends_leaves_no_watch(
    watching: RunningAgent, running_point: FolderSink
) -> None:
    watching.stop()

    assert running_point.finished == {0, 1}
    assert not is_watched(watching)


def test_another_core_of_the_machine_may_take_the_final_point(
    watching: RunningAgent, client: AgentClient, running_point: FolderSink, tmp_path: Path
) -> None:
    other = trusted_core(watching, client, tmp_path)

    assert take_final(other, running_point)[1].why_whole == ""


def test_a_description_says_who_can_watch(client: AgentClient) -> None:
    assert client.describe().can_watch is True


def test_a_provider_that_cannot_watch_says_so(
    agent: RunningAgent, source: Core, tmp_path: Path
) -> None:
    client = agent.client(source, source.pair(agent))
    assert client.describe().can_watch is False
    running = FolderSink(tmp_path / "running")

    assert not client.take_snapshot(running, watch_seconds=600).is_watched
    final, result = take_final(client, running)

    assert result.why_whole == "no earlier point was watched"
    assert_reads_all(agent, final)
    assert not client.end_watch()


class Views:
    """Views that a test loses or cannot release."""

    def __init__(self, loss: str = "", error: SnapshotFailed | None = None) -> None:
        self.loss = loss
        self.error = error
        self.released = 0

    def find_loss(self) -> str:
        return self.loss

    def release(self) -> None:
        self.released += 1
        if self.error is not None:
            raise self.error


def test_a_loss_ends_a_watch_before_its_time() -> None:
    views = Views()
    watch = Watch(600, poll_seconds=0.02)
    watch.keep(views)
    time.sleep(0.1)
    assert watch.is_active
    views.loss = "full"

    wait_until(lambda: not watch.is_active)

    assert watch.take() is None
    assert (watch.ended_because, views.released) == ("full", 1)


def test_who_takes_the_views_has_to_release_them() -> None:
    views = Views(loss="full")
    watch = Watch(1)
    watch.keep(views)

    assert watch.take() is views

    assert not watch.release()
    assert (watch.ended_because, views.released) == ("", 0)


def test_views_that_cannot_be_released_end_a_watch_all_the_same() -> None:
    views = Views(error=SnapshotFailed("busy"))
    watch = Watch(600)
    watch.keep(views)

    assert watch.release("enough")
    assert not watch.release("again")

    assert (watch.ended_because, views.released) == ("enough", 1)
