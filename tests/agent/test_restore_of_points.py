"""The whole way: a machine's points in a store, and back onto a blank machine."""

import os
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.client import AgentClient
from agent.client.restoring import match_disks
from agent.rescue.disk_writer import HEAD_BYTES
from recovery_store.manifest import Manifest
from recovery_store.store import Store
from tests.places.agent import MIB, Core, RunningAgent

MACHINE_ID = str(uuid.uuid4())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def machine(agent: RunningAgent, source: Core) -> AgentClient:
    return agent.client(source, source.pair(agent))


@pytest.fixture
def blank(rescue: RunningAgent, source: Core) -> AgentClient:
    return rescue.client(source, source.pair(rescue))


def take_point(
    store: Store, machine: AgentClient, parent: Manifest | None = None, hold_seconds: int = 0
) -> Manifest:
    point_id = str(uuid.uuid4())
    with store.begin_point(
        MACHINE_ID,
        "web-01",
        point_id,
        parent_point_id=parent.point_id if parent else None,
        taken_at=datetime.now(UTC),
    ) as writer:
        disks = writer.parent_disks() if parent else ()
        result = machine.take_snapshot(writer, disks, hold_seconds=hold_seconds)
        writer.commit(
            result.description.to_json(), result.consistency, str(uuid.uuid4()), "core", 1
        )
    return store.get_point(MACHINE_ID, point_id)


def restore(
    store: Store, point: Manifest, blank: AgentClient, since: Manifest | None = None
) -> None:
    capacities = [disk.capacity_bytes for disk in point.disks]
    numbers = match_disks(capacities, blank.describe())
    since_id = since.point_id if since else None
    for disk, number in zip(point.disks, numbers, strict=True):
        with store.plan_restore(MACHINE_ID, point.point_id, disk.number, since_id) as plan:
            blank.restore_disk(number, plan, point.point_id, since_id)
    blank.finish_restore(point.point_id)


def assert_same(agent: RunningAgent, rescue: RunningAgent, from_bytes: int = 0) -> None:
    for image, target in zip(agent.disks.values(), rescue.disks.values(), strict=True):
        data = image.read_bytes()
        assert target.read_bytes()[from_bytes : len(data)] == data[from_bytes:]


def change(image: Path, offset_bytes: int, data: bytes) -> None:
    with image.open("r+b") as file:
        file.seek(offset_bytes)
        file.write(data)


def test_a_machine_comes_back_as_it_was_and_then_as_it_is(
    store: Store,
    agent: RunningAgent,
    machine: AgentClient,
    rescue: RunningAgent,
    blank: AgentClient,
) -> None:
    base = take_point(store, machine)
    change(agent.disks["boot"], 3 * MIB, os.urandom(100))
    middle = take_point(store, machine, base)
    restore(store, middle, blank)
    assert_same(agent, rescue, HEAD_BYTES)

    change(agent.disks["boot"], MIB, bytes(MIB // 2))
    change(agent.disks["data"], 2 * MIB + 70, b"written while the restore ran")
    final = take_point(store, machine, middle, hold_seconds=60)
    restore(store, final, blank, since=middle)
    blank.restart_from_disk()

    assert_same(agent, rescue)
    assert blank.restore_state(final.point_id).is_known


def test_a_disk_with_other_data_becomes_the_point(
    store: Store,
    agent: RunningAgent,
    machine: AgentClient,
    rescue: RunningAgent,
    blank: AgentClient,
) -> None:
    for path in rescue.disks.values():
        path.write_bytes(os.urandom(path.stat().st_size))

    restore(store, take_point(store, machine), blank)
    blank.restart_from_disk()

    assert_same(agent, rescue)
