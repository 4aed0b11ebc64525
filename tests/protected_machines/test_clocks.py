"""A clock that was off stops no ping and no snapshot, and makes nothing look proven or old."""

import os
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone
from redis import Redis

from console.identity import this_core
from console.jobs.models import Job
from console.steady import STEADY_AFTER_SECONDS, look_at_clock
from protected_machines import tasks
from protected_machines.agents import connection
from protected_machines.choices import PointState
from protected_machines.locks import LOCK_SECONDS, alone
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.points import proofs, schedule
from protected_machines.points.index import reindex_store
from recovery_store.errors import ChainDamaged
from recovery_store.store import Store
from tests.clocks import Clock, stepped
from tests.factories import DESCRIPTION, make_machine, make_recovery_point
from tests.recovery_store.disks import send_disk

pytestmark = pytest.mark.django_db


def both_ways(clock: Clock, step: timedelta) -> tuple[Callable[[], None], Callable[[], None]]:
    """Set the clock wrong, then right again."""
    return lambda: clock.step(step), clock.put_right


def make_silent(port: int) -> Machine:
    """A machine whose agent does not answer."""
    return make_machine(
        host="127.0.0.1", port=port, agent_certificate_pem=this_core().certificate_pem
    )


@stepped
def test_agents_are_asked_while_the_clock_is_off_and_afterwards(
    clock: Clock, step: timedelta
) -> None:
    machines = [make_silent(1), make_silent(2)]
    assert connection.refresh_connections() == len(machines)
    for change in both_ways(clock, step):
        change()
        clock.pass_time(connection.PING_AGAIN_SECONDS + 1)
        assert connection.refresh_connections() == len(machines)


@stepped
def test_agents_that_were_asked_in_the_future_come_first(
    clock: Clock, step: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PINGS_PER_RUN", 1)
    clock.step(step)
    first = make_silent(1)
    assert connection.refresh_connections() == 1
    clock.put_right()
    second = make_silent(2)
    asked = set()
    for _ in range(2):
        clock.pass_time(1)
        connection.refresh_connections()
        asked |= set(
            Machine.objects.filter(
                connection_checked_at__range=(clock.now() - timedelta(seconds=5), clock.now())
            ).values_list("pk", flat=True)
        )
    assert asked == {first.pk, second.pk}


@stepped
def test_snapshots_are_taken_while_the_clock_is_off_and_afterwards(
    clock: Clock, step: timedelta
) -> None:
    machine = make_machine()
    make_recovery_point(machine, taken_at=clock.now(), indexed_at=clock.now())
    for change in both_ways(clock, step):
        change()
        # It may once be late, but never by more than an interval.
        clock.pass_time(2 * machine.snapshot_interval_seconds)
        started = schedule.start_due_snapshots()
        assert started == [machine.pk]
        Job.objects.all().delete()
        make_recovery_point(machine, taken_at=clock.now(), indexed_at=clock.now())


def make_stored(store: Store, machine: Machine, age: timedelta, parent: str | None = None) -> str:
    """A point in the store alone."""
    point_id = str(uuid.uuid4())
    with store.begin_point(
        str(machine.pk), machine.name, point_id, parent, taken_at=timezone.now() - age
    ) as writer:
        send_disk(writer, 0, {0: 1}, 65536, has_parent=parent is not None)
        writer.commit(DESCRIPTION, "file_system", this_core().id, this_core().name, 1)
    return point_id


@pytest.mark.parametrize("age_minutes", [0, 59, 61])
def test_points_found_again_do_not_hold_up_the_next_snapshot(
    store: Store, age_minutes: int
) -> None:
    machine = make_machine()
    make_stored(store, machine, timedelta(minutes=age_minutes))
    report = reindex_store(store)
    assert report.unreadable == []
    expected = [machine.pk] if age_minutes > 60 else []
    assert schedule.start_due_snapshots() == expected


@stepped
def test_a_proof_from_the_future_proves_nothing(
    store: Store, clock: Clock, step: timedelta
) -> None:
    machine = make_machine()
    parent = make_stored(store, machine, timedelta(hours=2))
    child = make_stored(store, machine, timedelta(hours=1), parent)
    report = reindex_store(store)
    assert report.unreadable == []
    clock.step(step)
    proofs.prove_whole_chain(machine.pk, parent)
    assert proofs.prove_lately(machine.pk, child).is_whole_chain is False
    clock.put_right()
    RecoveryPoint.objects.filter(pk=child).update(state=PointState.UNPROVEN)
    proof = proofs.prove_lately(machine.pk, child)
    # Ten minutes ago it was proven, whichever clock is asked.
    assert proof.is_whole_chain is (step != timedelta(minutes=-10))


@stepped
@pytest.mark.parametrize("is_older", [True, False])
def test_damage_is_told_of_all_points_that_were_there(
    clock: Clock, step: timedelta, is_older: bool
) -> None:
    machine = make_machine()
    damaged = make_recovery_point(machine, indexed_at=clock.now() - timedelta(hours=1))
    clock.step(step)
    child = make_recovery_point(machine, parent_id=damaged.pk, indexed_at=clock.now())
    clock.put_right()
    known_ids = {damaged.pk, child.pk} if is_older else {damaged.pk}
    proofs.record_damage(machine.pk, damaged.pk, ChainDamaged("a grain is damaged"), known_ids)
    child.refresh_from_db()
    assert (child.state == PointState.DAMAGED) is is_older


@stepped
def test_half_a_point_is_not_removed_because_the_clock_was_off(
    core_home: Path, store: Store, clock: Clock, step: timedelta
) -> None:
    (core_home / "clock").unlink(missing_ok=True)
    look_at_clock()
    clock.pass_time(STEADY_AFTER_SECONDS)
    half = store.root / "machines" / str(uuid.uuid4()) / "unfinished" / str(uuid.uuid4())
    half.mkdir(parents=True)
    os.utime(half, (clock.now().timestamp(),) * 2)
    for change in both_ways(clock, step):
        change()
        tasks.expire_unfinished()
        clock.pass_time(STEADY_AFTER_SECONDS / 3)
        tasks.expire_unfinished()
        assert half.exists()
    clock.pass_time(8 * 86_400)
    tasks.expire_unfinished()
    assert not half.exists()


def test_a_lock_from_the_future_ends_in_time(redis_url: str) -> None:
    key = f"understudy:{this_core().id}:prove-points"
    with Redis.from_url(settings.REDIS_URL) as redis:
        redis.set(key, "its holder is dead", ex=365 * 86_400)
        with alone("prove-points") as keep_alive:
            assert keep_alive is None
        assert 0 < redis.ttl(key) <= LOCK_SECONDS
        redis.delete(key)
