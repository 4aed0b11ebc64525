"""Recovery points of a real agent in a real store, and every way in which taking one fails."""

import shutil
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.errors import AgentCertificateChanged, AgentGone, AgentUnreachable
from console.jobs.errors import JobCancelled
from protected_machines import ownership
from protected_machines.choices import ConnectionState, MachineKind, PointKind, PointState
from protected_machines.claims import Judgement, OwnershipClaim, Speaker
from protected_machines.errors import MachineNotLive, NotTheOwner, OwnershipDisputed
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.points.taking import remove_recovery_point, take_recovery_point
from recovery_store.errors import StoreFull
from recovery_store.store import Store
from tests.factories import NOON
from tests.places.agent import MIB, RunningAgent, overwrite, write_disk
from tests.recovery_store.disks import judges_say_same
from tests.reports import Told

pytestmark = pytest.mark.django_db


def take(machine: Machine, kind: str = PointKind.INCREMENTAL, **more: object) -> RecoveryPoint:
    return take_recovery_point(machine, kind, uuid.uuid4(), **more)  # type: ignore[arg-type]


def assert_same(store: Store, point: RecoveryPoint, number: int, image: Path, out: Path) -> None:
    """Export the disk and have others compare it with the image."""
    with store.plan_export(str(point.machine_id), str(point.pk), number) as plan:
        plan.write_to(out)
    assert judges_say_same(out, image)


def test_the_first_point_is_a_base_image_and_says_why(
    machine: Machine, agent: RunningAgent, store: Store, tmp_path: Path
) -> None:
    notes: list[str] = []
    point = take(machine, report=Told(note=notes.append))
    assert point.kind == PointKind.BASE_IMAGE
    assert notes == ["Taking a base image: it is the machine's first recovery point."]
    assert point.taken_by_core_name == machine.owner_core_name
    assert point.stored_bytes > 0
    assert_same(store, point, 0, agent.disks["boot"], tmp_path / "boot.vmdk")
    assert_same(store, point, 1, agent.disks["data"], tmp_path / "data.vmdk")


def test_an_incremental_holds_only_what_changed(
    machine: Machine, agent: RunningAgent, store: Store, tmp_path: Path
) -> None:
    base = take(machine)
    overwrite(agent.disks["boot"], 300_000, b"changed")
    point = take(machine)
    assert (point.kind, point.parent_id) == (PointKind.INCREMENTAL, base.pk)
    assert point.stored_bytes < base.stored_bytes / 4
    assert_same(store, point, 0, agent.disks["boot"], tmp_path / "boot.vmdk")


def test_a_final_point_of_a_machine_that_is_not_watched_says_why_it_reads_all(
    machine: Machine, agent: RunningAgent, store: Store, tmp_path: Path
) -> None:
    notes: list[str] = []
    take(machine)
    take(machine, report=Told(note=notes.append), watch_seconds=600)
    assert notes == ["The agent cannot track further writes: the final point will read all disks."]
    overwrite(agent.disks["boot"], 300_000, b"changed")
    notes.clear()
    final = take(machine, report=Told(note=notes.append), hold_seconds=60)
    assert notes == [
        "Whole disks were read while the machine was frozen: no earlier point was watched."
    ]
    assert_same(store, final, 0, agent.disks["boot"], tmp_path / "boot.vmdk")


def test_a_final_point_of_a_watched_machine_reads_only_what_was_written(
    machine: Machine, agent: RunningAgent, store: Store, tmp_path: Path
) -> None:
    agent.module = "tests.agent.watching_agent"
    agent.restart()
    notes: list[str] = []
    take(machine)
    take(machine, report=Told(note=notes.append), watch_seconds=600)
    before = tmp_path / "data.raw"
    shutil.copy(agent.disks["data"], before)
    overwrite(agent.disks["boot"], 5 * 65536 + 7, b"changed")
    Path(f"{agent.disks['boot']}.notes").write_text("5 1\n")
    overwrite(agent.disks["data"], 5 * 65536 + 7, b"nobody told of it")
    final = take(machine, report=Told(note=notes.append), hold_seconds=60)
    assert notes == []
    assert_same(store, final, 0, agent.disks["boot"], tmp_path / "boot.vmdk")
    assert_same(store, final, 1, before, tmp_path / "data.vmdk")


def test_a_base_image_may_be_forced(machine: Machine) -> None:
    take(machine)
    assert take(machine, PointKind.BASE_IMAGE).kind == PointKind.BASE_IMAGE


def test_taking_the_same_point_twice_takes_it_once(machine: Machine, store: Store) -> None:
    point_id = uuid.uuid4()
    first = take_recovery_point(machine, PointKind.INCREMENTAL, point_id)
    RecoveryPoint.objects.all().delete()
    second = take_recovery_point(machine, PointKind.INCREMENTAL, point_id)
    assert first.pk == second.pk
    assert len(store.points(str(machine.pk))) == 1


def test_progress_counts_bytes_up_to_the_total(machine: Machine) -> None:
    seen: list[tuple[int, int]] = []
    take(machine, report=Told(lambda *figures: seen.append(figures)))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] == 6 * MIB


def test_disks_that_grow_appear_and_go_are_followed(
    machine: Machine, agent: RunningAgent, store: Store, tmp_path: Path
) -> None:
    take(machine)
    with agent.disks["boot"].open("r+b") as image:
        image.truncate(5 * MIB)
    overwrite(agent.disks["boot"], 4 * MIB + 5, b"in the new part")
    agent.add_disk("logs")
    agent.restart()
    grown = take(machine)
    manifest = store.get_point(str(machine.pk), str(grown.pk))
    assert [disk.key for disk in manifest.disks] == ["boot", "data", "logs"]
    assert manifest.disks[0].capacity_bytes == 5 * MIB
    assert manifest.disks[2].parent is None
    assert_same(store, grown, 0, agent.disks["boot"], tmp_path / "boot.vmdk")
    assert_same(store, grown, 2, agent.disks["logs"], tmp_path / "logs.vmdk")
    del agent.disks["data"]
    agent.restart()
    fewer = store.get_point(str(machine.pk), str(take(machine).pk))
    assert [disk.key for disk in fewer.disks] == ["boot", "logs"]
    machine.refresh_from_db()
    assert len(machine.disks) == 2


def test_a_damaged_point_is_no_parent(machine: Machine) -> None:
    base = take(machine)
    take(machine).mark_damaged("disk0.vmdk differs")
    assert take(machine).parent_id == base.pk


def fail_over(machine: Machine) -> None:
    """The target core, to which the machine is replicated, takes it over."""
    target = Speaker(str(uuid.uuid4()), "DR site", shares_machine=True, may_take_over=True)
    claim = OwnershipClaim(target.core_id, target.core_name, 7, NOON)
    assert ownership.hear_claim(machine, claim, target) is Judgement.NEWS


def test_another_owner_is_respected(machine: Machine, files: Callable[[], set[str]]) -> None:
    fail_over(machine)
    with pytest.raises(NotTheOwner, match="DR site since 2026-03-01 12:00:00 UTC"):
        take(machine)
    assert files() == set()


def test_losing_ownership_in_mid_stream_leaves_no_point(
    machine: Machine, files: Callable[[], set[str]]
) -> None:
    other = Machine.objects.get(pk=machine.pk)
    with pytest.raises(NotTheOwner):
        take(machine, report=Told(lambda *_: other.is_owned_here and fail_over(other)))
    assert files() == set()
    assert not RecoveryPoint.objects.exists()


def test_a_dispute_in_mid_stream_leaves_no_point(
    machine: Machine, files: Callable[[], set[str]]
) -> None:
    other = Machine.objects.get(pk=machine.pk)
    stranger = Speaker(str(uuid.uuid4()), "DR site", shares_machine=False, may_take_over=False)
    claim = OwnershipClaim(stranger.core_id, stranger.core_name, 7, NOON)
    with pytest.raises(OwnershipDisputed):
        take(machine, report=Told(lambda *_: ownership.hear_claim(other, claim, stranger)))
    assert files() == set()
    assert not RecoveryPoint.objects.exists()


def test_points_of_an_archive_have_no_agent_to_ask(machine: Machine) -> None:
    Machine.objects.update(kind=MachineKind.RECOVERY_POINTS_ONLY)
    with pytest.raises(MachineNotLive, match="no agent to contact"):
        take(machine)


def test_an_agent_that_is_away_is_unreachable(
    machine: Machine, agent: RunningAgent, files: Callable[[], set[str]]
) -> None:
    agent.kill()
    with pytest.raises(AgentUnreachable):
        take(machine)
    machine.refresh_from_db()
    assert machine.connection_state == ConnectionState.UNREACHABLE
    assert files() == set()


def test_an_agent_with_another_certificate_is_refused(
    machine: Machine, agent: RunningAgent, files: Callable[[], set[str]]
) -> None:
    agent.reinstall()
    with pytest.raises(AgentCertificateChanged, match="expected"):
        take(machine)
    machine.refresh_from_db()
    assert machine.connection_state == ConnectionState.AUTHENTICATION_ERROR
    assert files() == set()


def restart(agent: RunningAgent, disks: dict[str, Path]) -> None:
    agent.kill()
    agent.disks = disks
    agent.start()


def test_an_agent_that_dies_in_mid_stream_leaves_nothing(
    machine: Machine, agent: RunningAgent, files: Callable[[], set[str]]
) -> None:
    take(machine)
    before = files()
    small_disks = agent.disks
    # More than sockets hold: what is on its way when the agent dies is never the whole stream.
    large = write_disk(agent.folder / "large.raw", 64 * MIB, 64 * MIB)
    restart(agent, {"large": large})
    with pytest.raises(AgentGone):
        take(machine, PointKind.BASE_IMAGE, report=Told(lambda *_: agent.stop(signal.SIGKILL)))
    assert files() == before
    restart(agent, small_disks)
    assert take(machine).kind == PointKind.INCREMENTAL


def test_a_cancelled_snapshot_leaves_nothing(
    machine: Machine, files: Callable[[], set[str]]
) -> None:
    def cancel() -> None:
        raise JobCancelled

    with pytest.raises(JobCancelled):
        take(machine, report=Told(check_cancel=cancel))
    assert files() == set()


def test_a_full_store_is_named_and_leaves_nothing(
    machine: Machine, files: Callable[[], set[str]], settings: Any
) -> None:
    settings.UNDERSTUDY_STORE_RESERVE_BYTES = 1 << 60
    with pytest.raises(StoreFull):
        take(machine)
    assert files() == set()


def test_removing_a_point_twice_is_removing_it_once(
    machine: Machine, files: Callable[[], set[str]]
) -> None:
    point = take(machine)
    for _ in range(2):
        remove_recovery_point(machine.pk, point.pk)
        assert files() == set()
    assert not RecoveryPoint.objects.exists()


def test_a_new_point_is_not_proven_yet(machine: Machine) -> None:
    assert take(machine).state == PointState.UNPROVEN
