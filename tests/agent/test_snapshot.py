"""Points taken over a real connection, judged by qemu-img."""

import subprocess
from pathlib import Path

import pytest

from agent.client import AgentClient
from tests.agent.folder_sink import FolderSink
from tests.places.agent import MIB, Core, RunningAgent, write_disk


def assert_same_disk(vmdk: Path, image: Path) -> None:
    done = subprocess.run(
        ["qemu-img", "compare", "-f", "vmdk", "-F", "raw", str(vmdk), str(image)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def base(agent: RunningAgent, source: Core, tmp_path: Path) -> FolderSink:
    """A base image of the agent's disks."""
    sink = FolderSink(tmp_path / "base")
    agent.client(source, source.pair(agent)).take_snapshot(sink)
    return sink


def take_incremental(agent: RunningAgent, source: Core, base: FolderSink) -> FolderSink:
    sink = FolderSink(base.folder.parent / "incremental", parent=base)
    paired_pem = (agent.folder / "state/agent.pem").read_text()
    client = AgentClient("127.0.0.1", agent.port, source.credentials, paired_pem, 30)
    client.take_snapshot(sink, sink.parent_disks())
    return sink


def overwrite(image: Path, offset_bytes: int, data: bytes) -> None:
    with image.open("r+b") as file:
        file.seek(offset_bytes)
        file.write(data)


def test_a_base_image_holds_every_disk(agent: RunningAgent, base: FolderSink) -> None:
    assert base.finished == {0, 1}
    for disk in base.disks.values():
        assert not disk.has_parent
        assert_same_disk(disk.path, agent.disks[disk.key])


def test_an_incremental_on_its_base_is_the_disk_of_now(
    agent: RunningAgent, source: Core, base: FolderSink
) -> None:
    overwrite(agent.disks["boot"], 65536 * 3 + 100, b"changed")
    overwrite(agent.disks["boot"], 65536 * 5, bytes(65536))

    incremental = take_incremental(agent, source, base)

    for disk in incremental.disks.values():
        assert disk.has_parent
        assert disk.path.stat().st_size < base.disks[0].path.stat().st_size
        assert_same_disk(disk.path, agent.disks[disk.key])


def test_an_incremental_of_an_unchanged_disk_holds_no_grain(
    agent: RunningAgent, source: Core, base: FolderSink
) -> None:
    incremental = take_incremental(agent, source, base)

    assert incremental.disks[0].digests == base.disks[0].digests
    assert incremental.disks[0].path.stat().st_size < 128 * 1024


def test_a_grown_disk_continues_from_its_parent(
    agent: RunningAgent, source: Core, base: FolderSink
) -> None:
    with agent.disks["data"].open("r+b") as image:
        image.truncate(9 * MIB)
    overwrite(agent.disks["data"], 8 * MIB, b"in the new part")

    incremental = take_incremental(agent, source, base)

    assert incremental.disks[1].has_parent
    assert incremental.disks[1].capacity_bytes == 9 * MIB
    assert_same_disk(incremental.disks[1].path, agent.disks["data"])


def test_a_shrunk_disk_is_taken_whole(agent: RunningAgent, source: Core, base: FolderSink) -> None:
    with agent.disks["boot"].open("r+b") as image:
        image.truncate(1 * MIB)

    incremental = take_incremental(agent, source, base)

    assert not incremental.disks[0].has_parent
    assert_same_disk(incremental.disks[0].path, agent.disks["boot"])


def test_an_added_disk_is_taken_whole_and_a_removed_one_is_absent(
    agent: RunningAgent, source: Core, base: FolderSink
) -> None:
    agent.stop()
    del agent.disks["boot"]
    agent.disks["added"] = write_disk(agent.folder / "added.raw", 4 * MIB, 1 * MIB)
    agent.start()

    incremental = take_incremental(agent, source, base)

    kinds = {disk.key: disk.has_parent for disk in incremental.disks.values()}
    assert kinds == {"data": True, "added": False}
    for disk in incremental.disks.values():
        assert_same_disk(disk.path, agent.disks[disk.key])


def test_progress_ends_at_the_capacity_of_all_disks(
    agent: RunningAgent, source: Core, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    client = agent.client(source, source.pair(agent))

    result = client.take_snapshot(
        FolderSink(tmp_path / "base"), [], lambda done, total: seen.append((done, total))
    )

    assert seen[-1] == (11 * MIB + 512, 11 * MIB + 512)
    assert seen == sorted(seen)
    assert result.consistency == "not_guaranteed"
    assert result.description.snapshot_provider == "file"
