"""A clock that is off changes nothing about what is newest, due, sent next, or behind."""

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from agent.client import Deadline
from console.jobs.models import Job
from console.steady import STEADY_AFTER_SECONDS, look_at_clock
from protected_machines.choices import ConnectionState, MachineKind
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.models.points import arrange_points
from protected_machines.points import schedule
from protected_machines.points.store import open_store
from protected_machines.readiness import readiness as readiness_here
from replication.failback.final_points import was_off_in_time
from replication.failover.check import FailoverFacts, default_point
from replication.models import Failback, FailbackMachine, ReplicatedMachine, SeedDrive
from replication.seed_drives.drives import note_contents
from replication.tasks import commit_due_failbacks
from replication.transfer.history import keep_history_of, mark_unsent
from replication.transfer.lag import note_local_point, refresh_lag
from replication.transfer.receiving import missing_points
from tests.clocks import Clock, stepped
from tests.factories import NOON, make_machine, make_recovery_point
from tests.recovery_store.disks import commit, send_disk
from tests.replication.rows import make_pairing, make_replica, make_replicated

pytestmark = pytest.mark.django_db


def make_stepped_chain(step: timedelta) -> tuple[Machine, list[RecoveryPoint]]:
    """Four points a minute apart; the clock was off for the second and third."""
    machine, points = make_machine(), list[RecoveryPoint]()
    for number in range(4):
        off = step if number in (1, 2) else timedelta(0)
        points.append(
            make_recovery_point(
                machine,
                parent_id=points[-1].pk if points else None,
                taken_at=NOON + timedelta(minutes=number) + off,
                state="proven",
            )
        )
    return machine, points


@stepped
def test_the_newest_point_is_the_last_of_the_chain(step: timedelta) -> None:
    machine, points = make_stepped_chain(step)
    assert list(machine.points.oldest_first()) == points
    row = make_replicated(make_pairing(direction="incoming"), machine)
    facts = FailoverFacts(row.pairing, [row])
    assert default_point(facts.points[machine.pk]) == points[-1]
    newest = Machine.objects.with_newest_point().get(pk=machine.pk)
    assert newest.newest_point_id == points[-1].pk


@stepped
def test_what_waits_is_counted_along_the_chain(step: timedelta) -> None:
    machine, points = make_stepped_chain(step)
    row = make_replicated(make_pairing(), machine)
    for number, point in enumerate(points):
        row.note_synced(str(point.pk), point.taken_at, NOON)
        refresh_lag([row])
        assert (row.last_point_id, row.behind_points) == (point.pk, 3 - number)
    row.note_synced(str(points[1].pk), points[1].taken_at, NOON)
    assert row.last_point_id == points[-1].pk


@stepped
def test_what_was_never_sent_is_told_by_the_chain(step: timedelta) -> None:
    machine, points = make_stepped_chain(step)
    pairing = make_pairing()
    make_replicated(pairing, machine, last_point_id=points[1].pk, last_point_at=points[1].taken_at)
    Machine.objects.filter(pk=machine.pk).update(
        owner_core_id=pairing.peer_core_id, ownership_epoch=2
    )
    assert mark_unsent(pairing) == 2
    assert list(machine.points.carried_on().oldest_first()) == points[:2]


@stepped
def test_the_points_after_the_one_gone_back_to_are_told_by_the_chain(step: timedelta) -> None:
    machine = make_machine()
    kept = make_recovery_point(machine, taken_at=NOON + step)
    later = make_recovery_point(machine, parent_id=kept.pk, ownership_epoch=2, taken_at=NOON)
    Machine.objects.filter(pk=machine.pk).update(ownership_epoch=3)
    assert keep_history_of(machine, kept.pk) == 1
    assert not RecoveryPoint.objects.get(pk=later.pk).is_carried_on


@stepped
def test_a_point_taken_after_a_failover_is_the_newest(step: timedelta) -> None:
    machine = make_machine()
    arrived = make_recovery_point(machine, taken_at=NOON + step)
    row = make_replicated(
        make_pairing(direction="incoming"),
        machine,
        last_point_id=arrived.pk,
        last_point_at=arrived.taken_at,
    )
    taken = make_recovery_point(machine, parent_id=arrived.pk, ownership_epoch=2, taken_at=NOON)
    note_local_point(machine.pk, taken)
    row.refresh_from_db()
    assert row.last_point_id == taken.pk


@stepped
def test_a_receiver_orders_base_images_as_their_owner_does(step: timedelta) -> None:
    machine = make_machine()
    first = make_recovery_point(machine, taken_at=NOON + step)
    second = make_recovery_point(machine, taken_at=NOON)
    absent = uuid.uuid4()
    assert missing_points(machine, [first.pk, second.pk, absent]) == [absent]
    assert list(machine.points.oldest_first()) == [first, second]


@stepped
def test_what_is_due_counts_from_the_own_last_success(step: timedelta) -> None:
    now = timezone.now()
    machine = make_machine()
    make_recovery_point(machine, taken_at=now + step, indexed_at=now)
    assert schedule.start_due_snapshots(now + timedelta(minutes=59)) == []
    assert schedule.start_due_snapshots(now + timedelta(minutes=61)) == [machine.pk]


@stepped
def test_a_core_whose_own_clock_stepped_back_takes_snapshots(step: timedelta) -> None:
    now = timezone.now()
    machine = make_machine(snapshot_tried_at=now + abs(step))
    make_recovery_point(machine, taken_at=now, indexed_at=now + abs(step))
    assert schedule.start_due_snapshots(now) == [machine.pk]


def test_a_point_of_the_last_year_there_is_stops_no_machine() -> None:
    now = timezone.now()
    other, machine = make_machine(), make_machine()
    make_recovery_point(
        machine,
        taken_at=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
        indexed_at=now - timedelta(hours=2),
    )
    assert set(schedule.start_due_snapshots(now)) == {other.pk, machine.pk}


def test_arranging_what_is_in_order_changes_nothing() -> None:
    machine = make_machine()
    for _ in range(3):
        make_recovery_point(machine)
    ids = list(machine.points.oldest_first().values_list("pk", flat=True))
    assert arrange_points(machine.pk, ids) == 0


def test_a_point_dated_ahead_is_a_risk_and_no_lag() -> None:
    now = timezone.now()
    machine = make_machine()
    make_recovery_point(machine, state="proven", taken_at=now + timedelta(minutes=10))
    (entry,) = readiness_here(now)
    assert "dated 10 minutes ahead of this core's clock" in " ".join(entry.reasons)
    row = make_replicated(
        make_pairing(),
        machine,
        last_point_at=now,
        newest_point_at=now + timedelta(days=365),
        behind_points=1,
    )
    assert row.behind_seconds == 0


@stepped
def test_a_seed_drive_holds_what_was_taken_before_its_newest_point(step: timedelta) -> None:
    machine, taken, parent = make_machine(), list[str](), None
    for number in range(3):
        point_id = str(uuid.uuid4())
        taken_at = NOON + timedelta(minutes=number) + (step if number == 1 else timedelta(0))
        with open_store().begin_point(
            str(machine.pk), machine.name, point_id, parent, taken_at=taken_at
        ) as writer:
            send_disk(writer, 0, {number: 1}, 4 * 65536, has_parent=parent is not None)
            commit(writer)
        taken, parent = [*taken, point_id], point_id
    drive = SeedDrive.objects.create(replicated=make_replicated(make_pairing(), machine))
    note_contents(drive.pk, machine.pk, {"newest_point_id": taken[1]})
    drive.refresh_from_db()
    assert (drive.points, str(drive.newest_point_id)) == (2, taken[1])


@stepped
def test_a_failed_attempt_is_repeated_while_the_clock_is_off_and_afterwards(
    clock: Clock, step: timedelta
) -> None:
    row = make_replicated(make_pairing())
    for change in (lambda: clock.step(step), clock.put_right):
        row.note_failed("REPLICATION-PEER-FAULTY", "It answered nonsense.", clock.now())
        change()
        clock.pass_time(700)
        assert list(ReplicatedMachine.objects.due(clock.now())) == [row]


@stepped
def test_when_a_core_was_last_seen_and_heard_is_kept_up(clock: Clock, step: timedelta) -> None:
    pairing = make_pairing(direction="incoming")
    for change in (lambda: clock.step(step), clock.put_right):
        pairing.note_seen(clock.now())
        pairing.note_heard(clock.now())
        change()
        clock.pass_time(6)
        pairing.note_seen(clock.now())
        pairing.note_heard(clock.now())
        for told in (pairing.last_seen_at, pairing.heard_at):
            assert told is not None
            assert abs(clock.now() - told) < timedelta(seconds=5)


@stepped
def test_a_silent_core_is_unreachable_whatever_the_clock_showed_when_it_called(
    clock: Clock, step: timedelta
) -> None:
    pairing = make_pairing(direction="incoming")
    clock.step(step)
    pairing.note_heard(clock.now())
    clock.put_right()
    clock.pass_time(31)
    pairing.note_unreachable("It did not respond in time.", clock.now())
    assert pairing.connection_state == ConnectionState.UNREACHABLE
    pairing.note_heard(clock.now())
    pairing.note_unreachable("It did not respond in time.", clock.now())
    assert pairing.connection_state == ConnectionState.ONLINE


def make_failed_back(failed_back_at: datetime) -> FailbackMachine:
    """A machine that failed back, to be committed after a week."""
    pairing = make_pairing(direction="incoming")
    machine = make_replica(pairing, kind=MachineKind.FAILED_BACK)
    make_replicated(pairing, machine)
    failback = Failback.objects.create(pairing=pairing, request_id=uuid.uuid4(), commit_days=7)
    return FailbackMachine.objects.create(
        failback=failback,
        machine=machine,
        rescue_id=uuid.uuid4(),
        state="failed_back",
        failed_back_at=failed_back_at,
    )


def commits() -> int:
    commit_due_failbacks()
    return Job.objects.filter(kind="failback_commit").count()


@stepped
@pytest.mark.parametrize("is_put_right", [False, True], ids=["off", "put right"])
def test_a_failback_is_not_committed_because_the_clock_was_off(
    core_home: Path, clock: Clock, step: timedelta, is_put_right: bool
) -> None:
    (core_home / "clock").unlink(missing_ok=True)
    look_at_clock()
    if is_put_right:
        clock.step(step)
        look_at_clock()
    clock.pass_time(STEADY_AFTER_SECONDS)
    make_failed_back(clock.now())
    assert commits() == 0
    clock.put_right() if is_put_right else clock.step(step)
    # Not while it may still be wrong, and not before a week has passed since.
    assert commits() == 0
    for _ in range(6):
        clock.pass_time(86_400)
        assert commits() == 0
    clock.pass_time(86_400 + 700)
    assert commits() == 1


def test_a_hold_that_an_older_version_began_proves_nothing(clock: Clock) -> None:
    ends = Deadline.now().after(120).to_json()
    assert was_off_in_time({"point_id": "x", "ends": ends})
    assert not was_off_in_time({"point_id": "x", "until": NOON.isoformat()})
    clock.pass_time(121)
    assert not was_off_in_time({"point_id": "x", "ends": ends})
