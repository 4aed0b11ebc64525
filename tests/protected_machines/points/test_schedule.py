"""The reconcilers: due snapshots, connections and proofs."""

import shutil
import threading
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from console.jobs.choices import JobState
from console.jobs.models import Job
from protected_machines.agents import connection
from protected_machines.choices import ConnectionState, MachineKind, PointKind, PointState
from protected_machines.locks import alone
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.points import schedule
from protected_machines.points.proofs import ChainProof, prove_lately
from protected_machines.points.taking import take_recovery_point
from recovery_store.folders import WriterLock
from recovery_store.store import Store
from tests.factories import NOON, make_machine, make_recovery_point
from tests.places.agent import RunningAgent, overwrite

pytestmark = pytest.mark.django_db


def test_the_first_snapshot_is_a_base_image_then_come_incrementals() -> None:
    new, old = make_machine(), make_machine()
    make_recovery_point(old, indexed_at=NOON)
    assert set(schedule.start_due_snapshots()) == {new.pk, old.pk}
    kinds = {job.subject_id: job.params["kind"] for job in Job.objects.all()}
    assert kinds == {new.pk: "base_image", old.pk: "incremental"}
    assert {job.queue for job in Job.objects.all()} == {"transfer"}


def test_a_machine_that_cannot_be_judged_keeps_no_other_from_its_snapshot() -> None:
    broken, sound = make_machine(), make_machine()
    make_recovery_point(broken, taken_at=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
    assert schedule.start_due_snapshots() == [sound.pk]


@pytest.mark.parametrize("machines", [1, 2])
def test_an_agent_whose_certificate_cannot_be_read_keeps_out_no_other(machines: int) -> None:
    for port in range(2, machines + 2):
        make_machine(host="127.0.0.1", port=port, agent_certificate_pem="nonsense")
    sound = make_machine(host="127.0.0.1", port=1, agent_certificate_pem=_some_certificate())
    assert connection.refresh_connections() == machines + 1
    sound.refresh_from_db()
    assert sound.connection_state == ConnectionState.UNREACHABLE


def test_what_is_half_here_goes_after_a_week_without_growth(store: Store) -> None:
    machine = make_machine()
    unfinished = store.root / "machines" / str(machine.pk) / "unfinished"
    paths = [unfinished / f"{kind}{uuid.uuid4()}" for kind in ("replica-", "", "gone-", "replica-")]
    for path in paths:
        path.mkdir(parents=True)
        (path / "disk0.vmdk").write_bytes(b"half")
    now = timezone.now()
    assert schedule.expire_unfinished(now + timedelta(days=6)) == []
    later = now + timedelta(days=8)
    with WriterLock(unfinished, paths[0].name):
        assert set(schedule.expire_unfinished(later)) == set(paths[1:])
    assert schedule.expire_unfinished(later) == paths[:1]
    assert not list(unfinished.iterdir())


def test_a_machine_with_an_open_job_is_not_started_again() -> None:
    make_machine()
    assert len(schedule.start_due_snapshots()) == 1
    later = timezone.now() + timedelta(hours=2)
    assert schedule.start_due_snapshots(later) == []


def test_a_failed_snapshot_is_tried_again_after_a_pause() -> None:
    make_machine()
    now = timezone.now()
    schedule.start_due_snapshots(now)
    Job.objects.update(state=JobState.FAILED)
    assert schedule.start_due_snapshots(now + timedelta(seconds=5)) == []
    assert len(schedule.start_due_snapshots(now + timedelta(seconds=61))) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"is_paused": True},
        {"owner_core_id": uuid.uuid4()},
        {"kind": MachineKind.REPLICATED},
        {"kind": MachineKind.PENDING_FAILOVER},
        {"kind": MachineKind.RECOVERY_POINTS_ONLY},
    ],
)
def test_only_live_machines_of_this_core_are_started(changes: dict[str, Any]) -> None:
    make_machine(**changes)
    assert schedule.start_due_snapshots() == []


def test_the_schedule_looks_at_all_machines_with_one_query(
    django_assert_num_queries: Any,
) -> None:
    for _ in range(30):
        make_recovery_point(make_machine(), taken_at=timezone.now())
    with django_assert_num_queries(1):
        assert schedule.start_due_snapshots() == []


def test_connections_are_refreshed_and_told_apart(machine: Machine, agent: RunningAgent) -> None:
    Machine.objects.update(connection_state=ConnectionState.UNKNOWN, connection_checked_at=None)
    away = make_machine(
        host="127.0.0.1", port=1, agent_certificate_pem=machine.agent_certificate_pem
    )
    assert connection.refresh_connections() == 2
    machine.refresh_from_db()
    away.refresh_from_db()
    assert machine.connection_state == ConnectionState.ONLINE
    assert away.connection_state == ConnectionState.UNREACHABLE
    assert "127.0.0.1:1" in away.connection_error
    assert connection.refresh_connections() == 0, "both were asked just now"
    agent.reinstall()
    connection.refresh_connections(timezone.now() + timedelta(minutes=1))
    machine.refresh_from_db()
    assert machine.connection_state == ConnectionState.AUTHENTICATION_ERROR


@pytest.mark.django_db(transaction=True)
def test_many_agents_are_asked_at_once(machine: Machine) -> None:
    pem = machine.agent_certificate_pem
    for port in range(1, 6):
        make_machine(host="127.0.0.1", port=port, agent_certificate_pem=pem)
    Machine.objects.update(connection_checked_at=None)
    assert connection.refresh_connections() == 6
    states = Machine.objects.values_list("connection_state", flat=True)
    assert sorted(states) == ["online"] + ["unreachable"] * 5


def test_a_run_asks_a_bounded_number_of_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PINGS_PER_RUN", 2)
    first = [make_machine(host="127.0.0.1", port=port).pk for port in range(1, 4)]
    Machine.objects.update(agent_certificate_pem=_some_certificate())
    assert connection.refresh_connections() == 2
    assert connection.refresh_connections() == 1
    asked = Machine.objects.exclude(connection_checked_at=None).values_list("pk", flat=True)
    assert set(asked) == set(first)


def _some_certificate() -> str:
    from console.identity import this_core

    return this_core().certificate_pem


def take(machine: Machine) -> RecoveryPoint:
    return take_recovery_point(machine, PointKind.INCREMENTAL, uuid.uuid4())


def test_proving_the_newest_point_proves_all_it_builds_on(
    machine: Machine, agent: RunningAgent
) -> None:
    points = [take(machine) for _ in range(3)]
    assert schedule.prove_points() == [points[-1].pk]
    assert set(RecoveryPoint.objects.values_list("state", flat=True)) == {PointState.PROVEN}
    assert schedule.prove_points() == []


def test_only_a_new_points_own_files_are_read_while_its_chain_was_proven_lately(
    machine: Machine, agent: RunningAgent
) -> None:
    base = take(machine)
    assert prove_lately(machine.pk, base.pk) == ChainProof(1, is_whole_chain=True)
    newer = take(machine)
    assert prove_lately(machine.pk, newer.pk) == ChainProof(1, is_whole_chain=False)
    newer.refresh_from_db()
    assert newer.state == PointState.PROVEN
    long_ago = timezone.now() - timedelta(days=8)
    RecoveryPoint.objects.filter(pk=base.pk).update(proven_at=long_ago)
    assert prove_lately(machine.pk, newer.pk) == ChainProof(2, is_whole_chain=True)


def flip_a_byte(store: Store, point: RecoveryPoint) -> None:
    disk = store.get_folder(str(point.machine_id), str(point.pk)) / "disk0.vmdk"
    disk.chmod(0o600)
    with disk.open("r+b") as file:
        file.seek(disk.stat().st_size // 2)
        (old,) = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([old ^ 255]))


@pytest.mark.parametrize("is_chain_proven", [False, True])
def test_damage_is_found_and_named_and_older_points_stay_good(
    machine: Machine, store: Store, agent: RunningAgent, is_chain_proven: bool
) -> None:
    base = take(machine)
    if is_chain_proven:
        assert schedule.prove_points() == [base.pk]
    overwrite(agent.disks["boot"], 70_000, b"changed")
    damaged, child = take(machine), take(machine)
    flip_a_byte(store, damaged)
    schedule.prove_points()
    schedule.prove_points()
    states = {point.pk: point for point in RecoveryPoint.objects.all()}
    assert states[damaged.pk].state == PointState.DAMAGED
    assert states[child.pk].state == PointState.DAMAGED
    assert "disk0.vmdk" in states[child.pk].damage_text
    assert states[base.pk].state == PointState.PROVEN


def test_a_point_that_is_not_there_is_left_to_the_comparison_with_the_store(
    machine: Machine, store: Store
) -> None:
    point = take(machine)
    shutil.rmtree(store.get_folder(str(machine.pk), str(point.pk)))
    assert schedule.prove_points() == []
    point.refresh_from_db()
    assert point.state == PointState.UNPROVEN


def test_only_one_worker_proves_at_a_time(redis_url: str) -> None:
    with alone("prove-points") as first, alone("prove-points") as second:
        assert first is not None
        assert second is None
        first()
    with alone("prove-points") as third:
        assert third is not None


def test_a_lock_that_was_lost_breaks_nothing(redis_url: str) -> None:
    from redis import Redis

    with alone("prove-points") as keep_alive:
        assert keep_alive is not None
        Redis.from_url(redis_url).flushdb()
        keep_alive()


def test_due_snapshots_started_by_two_at_once_are_started_once(transactional_db: None) -> None:
    from django.db import connections

    make_machine()
    barrier = threading.Barrier(2)

    def run() -> None:
        barrier.wait(10)
        schedule.start_due_snapshots()
        connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert Job.objects.count() == 1
