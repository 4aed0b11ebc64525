"""Bare metal restore onto raw files that stand in for disks, over a real connection."""

import os
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from agent.client import AgentClient, RestoredDisk
from agent.client.restoring import match_disks
from agent.errors import (
    DiskTooSmall,
    RequestRefused,
    RestoreFailed,
    RestoreRefused,
    RestoreUnknown,
    WrongPairingCode,
)
from recovery_store.vmdk.deflate import deflate
from tests.agent.folder_sink import FolderSink
from tests.agent.raw_plan import GRAIN_BYTES, RawPlan, Run
from tests.places.agent import (
    MIB,
    Core,
    RunningAgent,
    assert_becomes,
    blank_disk,
    write_disk,
)
from tests.places.waiting import wait_until


@pytest.fixture
def client(rescue: RunningAgent, source: Core) -> AgentClient:
    return rescue.client(source, source.pair(rescue))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A disk with data, holes between, and a last grain that is cut."""
    path = write_disk(tmp_path / "image.raw", 8 * MIB - 512, 3 * MIB)
    overwrite(path, 5 * MIB, os.urandom(2 * GRAIN_BYTES))
    overwrite(path, 8 * MIB - 1024, b"at the very end")
    return path


def overwrite(path: Path, offset_bytes: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset_bytes)
        file.write(data)


def assert_holds(client: AgentClient, target: Path, image: Path) -> None:
    """Have the machine restart, and compare; what qemu-img says counts too."""
    assert_becomes(client, target, image)
    done = subprocess.run(
        ["qemu-img", "compare", "-f", "raw", "-F", "raw", str(target), str(image)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rescue_machine_describes_its_disks_as_blank(client: AgentClient) -> None:
    description = client.describe()

    assert description.is_rescue
    assert [disk.is_blank for disk in description.disks] == [True, True]
    assert match_disks([8 * MIB, 1 * MIB], description) == [0, 1]


def test_a_disk_that_holds_something_says_what(client: AgentClient, rescue: RunningAgent) -> None:
    head = bytearray(512)
    head[440:444], head[510:512] = b"\x78\x56\x34\x12", b"\x55\xaa"
    overwrite(rescue.disks["first"], 0, bytes(head))
    overwrite(rescue.disks["second"], 4 * MIB - 4, b"data")

    first, second = client.describe().disks

    assert (first.is_blank, first.content) == (False, "mbr-12345678")
    assert (second.is_blank, second.content) == (False, "unknown data")
    assert first.key == "first"


def test_a_whole_restore_equals_the_point(
    client: AgentClient, rescue: RunningAgent, image: Path
) -> None:
    plan = RawPlan(image)
    seen: list[tuple[int, int]] = []

    done = client.restore_disk(0, plan, "point", progress=lambda *two: seen.append(two))
    client.finish_restore("point")

    assert done == RestoredDisk(next_grain=128, is_done=True)
    assert_holds(client, rescue.disks["first"], image)
    assert seen[0] == (0, plan.data_bytes)
    assert seen[-1] == (plan.data_bytes, plan.data_bytes)
    assert seen == sorted(seen)
    assert client.restore_state("point").disks == {0: done}


def test_only_grains_with_data_are_sent(client: AgentClient, image: Path) -> None:
    plan = RawPlan(image)

    assert sum(len(run.compressed) for run in plan.runs) == 48 + 2 + 1
    client.restore_disk(0, plan, "point")


def test_what_was_on_the_disk_is_gone_where_the_point_holds_nothing(
    client: AgentClient, rescue: RunningAgent, image: Path
) -> None:
    rescue.disks["first"].write_bytes(os.urandom(8 * MIB))

    client.restore_disk(0, RawPlan(image), "point")

    assert_holds(client, rescue.disks["first"], image)


def test_the_end_of_a_larger_disk_is_cleared_and_the_rest_behind_the_point_left(
    client: AgentClient, rescue: RunningAgent, tmp_path: Path
) -> None:
    image = write_disk(tmp_path / "small.raw", 2 * MIB, 1 * MIB)
    before = os.urandom(8 * MIB)
    rescue.disks["first"].write_bytes(before)

    client.restore_disk(0, RawPlan(image), "point")

    assert_becomes(client, rescue.disks["first"], image)
    after = rescue.disks["first"].read_bytes()
    assert after[2 * MIB : 7 * MIB] == before[2 * MIB : 7 * MIB]
    assert after[7 * MIB :] == bytes(MIB)


def test_a_delta_writes_only_what_changed(
    client: AgentClient, rescue: RunningAgent, image: Path, tmp_path: Path
) -> None:
    newer = tmp_path / "newer.raw"
    newer.write_bytes(image.read_bytes())
    overwrite(newer, 3 * GRAIN_BYTES + 10, b"changed")
    overwrite(newer, 7 * GRAIN_BYTES, bytes(2 * GRAIN_BYTES))
    client.restore_disk(0, RawPlan(image), "old")
    delta = RawPlan(newer, since=image)

    client.restore_disk(0, delta, "new", since_token="old")

    assert [(run.first_grain, run.zero_grains) for run in delta.runs] == [(3, 0), (7, 2)]
    assert_holds(client, rescue.disks["first"], newer)
    assert not client.restore_state("old").is_known


@pytest.mark.parametrize("head", [b"another boot sector", bytes(GRAIN_BYTES)], ids=["new", "none"])
def test_a_delta_of_the_first_grain(
    head: bytes, client: AgentClient, rescue: RunningAgent, image: Path, tmp_path: Path
) -> None:
    newer = tmp_path / "newer.raw"
    newer.write_bytes(image.read_bytes())
    overwrite(newer, 0, head)
    client.restore_disk(0, RawPlan(image), "old")

    client.restore_disk(0, RawPlan(newer, since=image), "new", since_token="old")

    assert_holds(client, rescue.disks["first"], newer)


def test_a_delta_onto_a_grown_disk(
    client: AgentClient, rescue: RunningAgent, tmp_path: Path
) -> None:
    image = write_disk(tmp_path / "old.raw", 2 * MIB, 1 * MIB)
    newer = tmp_path / "new.raw"
    newer.write_bytes(image.read_bytes())
    os.truncate(newer, 6 * MIB)
    overwrite(newer, 5 * MIB, b"in the new part")
    client.restore_disk(0, RawPlan(image), "old")

    client.restore_disk(0, RawPlan(newer, since=image), "new", since_token="old")

    assert_holds(client, rescue.disks["first"], newer)


def test_a_delta_onto_something_else_is_refused_and_writes_nothing(
    client: AgentClient, rescue: RunningAgent, image: Path
) -> None:
    client.restore_disk(0, RawPlan(image), "other")
    before = rescue.disks["first"].read_bytes()

    with pytest.raises(RestoreUnknown, match="holds other, complete"):
        client.restore_disk(0, RawPlan(image), "new", since_token="old")
    with pytest.raises(RestoreUnknown, match="knows of since it was started"):
        client.restore_disk(1, RawPlan(image_of(rescue, 1)), "new", since_token="old")

    assert rescue.disks["first"].read_bytes() == before


def image_of(rescue: RunningAgent, number: int) -> Path:
    return list(rescue.disks.values())[number]


def test_a_smaller_disk_is_refused_by_how_much_and_nothing_is_written(
    client: AgentClient, rescue: RunningAgent, image: Path
) -> None:
    with pytest.raises(DiskTooSmall, match=f"too small by {4 * MIB - 512} bytes"):
        client.restore_disk(1, RawPlan(image), "point")

    assert not any(rescue.disks["second"].read_bytes())
    assert not client.restore_state("point").is_known


def test_matching_refuses_what_does_not_fit(client: AgentClient) -> None:
    description = client.describe()

    with pytest.raises(DiskTooSmall) as caught:
        match_disks([1 * MIB, 4 * MIB + 512], description)
    assert caught.value.missing_bytes == 512
    with pytest.raises(RestoreRefused, match="has 2"):
        match_disks([512, 512, 512], description)
    with pytest.raises(RestoreRefused, match="rescue medium"):
        match_disks([512], replace(description, mode="protect"))


def test_two_disks_one_after_the_other(
    client: AgentClient, rescue: RunningAgent, image: Path, tmp_path: Path
) -> None:
    second = write_disk(tmp_path / "second.raw", 4 * MIB, 1 * MIB)

    client.restore_disk(0, RawPlan(image), "point")
    client.restore_disk(1, RawPlan(second), "point")
    client.finish_restore("point")

    assert_holds(client, rescue.disks["first"], image)
    assert_holds(client, rescue.disks["second"], second)
    assert set(client.restore_state("point").disks) == {0, 1}


def test_restoring_a_finished_disk_again_sends_nothing(client: AgentClient, image: Path) -> None:
    client.restore_disk(0, RawPlan(image), "point")
    plan = RawPlan(image)
    seen: list[tuple[int, int]] = []

    client.restore_disk(0, plan, "point", progress=lambda *two: seen.append(two))

    assert plan.asked_from == []
    assert seen == [(plan.data_bytes, plan.data_bytes)]


def test_another_point_over_a_finished_one_is_written_whole(
    client: AgentClient, rescue: RunningAgent, image: Path, tmp_path: Path
) -> None:
    other = write_disk(tmp_path / "other.raw", 6 * MIB, 1 * MIB)
    client.restore_disk(0, RawPlan(image), "point")

    client.restore_disk(0, RawPlan(other), "other")

    assert_becomes(client, rescue.disks["first"], other)
    assert not client.restore_state("point").is_known


def test_a_grain_that_does_not_inflate_fails_with_its_disk(
    client: AgentClient, image: Path
) -> None:
    plan = RawPlan(image)
    plan.runs[2] = Run(plan.runs[2].first_grain, [b"no zlib"] * 8, 0, 56)

    with pytest.raises(RestoreFailed, match=r"first\.raw: .*does not inflate"):
        client.restore_disk(0, plan, "point")

    assert client.restore_state("point").disks[0].next_grain == plan.runs[2].first_grain


def test_a_grain_that_inflates_to_more_than_a_grain_fails(client: AgentClient, image: Path) -> None:
    plan = RawPlan(image)
    bomb = zlib.compress(bytes(50 * MIB), 9)
    plan.runs[0] = Run(0, [bomb], 0, len(bomb))

    with pytest.raises(RestoreFailed, match="inflates to"):
        client.restore_disk(0, plan, "point")


def test_the_wrong_code_is_refused_and_the_right_one_taken(
    rescue: RunningAgent, source: Core
) -> None:
    with pytest.raises(WrongPairingCode, match="4 tries left"):
        source.pair(rescue, "WRONG-CODE-0000")

    assert source.pair(rescue).description.is_rescue


def test_finishing_and_restarting_want_whole_disks(
    client: AgentClient, rescue: RunningAgent, image: Path
) -> None:
    with pytest.raises(RestoreUnknown):
        client.finish_restore("point")
    with pytest.raises(RestoreRefused, match="not been restored completely"):
        client.restart_from_disk()

    plan = RawPlan(image)
    plan.runs[3] = Run(plan.runs[3].first_grain, [b"no zlib"], 0, 7)
    with pytest.raises(RestoreFailed):
        client.restore_disk(0, plan, "point")

    with pytest.raises(RestoreRefused, match="is not complete"):
        client.finish_restore("point")
    with pytest.raises(RestoreRefused):
        client.restart_from_disk()
    assert not (rescue.folder / "state/restarted").exists()


def test_restarting_leaves_its_mark(client: AgentClient, rescue: RunningAgent, image: Path) -> None:
    client.restore_disk(0, RawPlan(image), "point")
    client.finish_restore("point")

    client.restart_from_disk()

    wait_until((rescue.folder / "state/restarted").exists)


def test_a_rescue_machine_takes_no_points_and_a_protected_one_no_restores(
    client: AgentClient, agent: RunningAgent, source: Core, image: Path, tmp_path: Path
) -> None:
    with pytest.raises(RequestRefused, match="mode 'restore'"):
        client.take_snapshot(FolderSink(tmp_path / "point"))

    protected = agent.client(source, source.pair(agent))
    with pytest.raises(RequestRefused, match="mode 'protect'"):
        protected.restore_disk(0, RawPlan(image), "point")


def test_a_blank_disk_stays_without_blocks_where_the_point_holds_nothing(
    client: AgentClient, rescue: RunningAgent, tmp_path: Path
) -> None:
    image = blank_disk(tmp_path / "sparse.raw", 8 * MIB)
    overwrite(image, 4 * MIB, os.urandom(GRAIN_BYTES))

    client.restore_disk(0, RawPlan(image), "point")

    assert_holds(client, rescue.disks["first"], image)
    assert rescue.disks["first"].stat().st_blocks * 512 <= 4 * GRAIN_BYTES


def test_a_plan_whose_run_does_not_fit_into_a_frame_is_cut(
    client: AgentClient, rescue: RunningAgent, tmp_path: Path
) -> None:
    image = tmp_path / "image.raw"
    image.write_bytes(os.urandom(8 * MIB))
    plan = RawPlan(image, run_grains=1000)

    client.restore_disk(0, plan, "point")

    assert len(plan.runs) == 1
    assert_becomes(client, rescue.disks["first"], image)


def test_grains_of_every_size_of_run(
    client: AgentClient, rescue: RunningAgent, image: Path
) -> None:
    incompressible = [deflate(os.urandom(GRAIN_BYTES)) for _ in range(100)]
    plan = RawPlan(image)
    plan.runs = [Run(0, incompressible, 0, sum(map(len, incompressible)))]

    client.restore_disk(0, plan, "point")
    client.restart_from_disk()

    assert rescue.disks["first"].read_bytes()[: 100 * GRAIN_BYTES] == b"".join(
        zlib.decompress(grain) for grain in incompressible
    )
