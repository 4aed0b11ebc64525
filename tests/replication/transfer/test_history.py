"""Points that a machine went on without: which they are, and that they are not replicated."""

import uuid
from datetime import timedelta

import pytest

from protected_machines.models import Machine, RecoveryPoint
from replication.models import ReplicatedMachine
from replication.transfer.history import keep_history_of, mark_by_history, mark_unsent
from replication.transfer.lag import refresh_lag
from tests.factories import NOON, make_machine, make_recovery_point
from tests.replication.rows import make_pairing, make_replicated

pytestmark = pytest.mark.django_db


@pytest.fixture
def machine() -> Machine:
    return make_machine(ownership_epoch=1)


@pytest.fixture
def chain(machine: Machine) -> list[RecoveryPoint]:
    """A base and three increments, each a minute after the one before."""
    points = [make_recovery_point(machine)]
    for _ in range(3):
        points.append(make_recovery_point(machine, parent_id=points[-1].pk))
    return points


def carried(machine: Machine) -> list[bool]:
    return list(machine.points.order_by("taken_at").values_list("is_carried_on", flat=True))


def test_what_the_owner_never_had_is_a_branch(machine: Machine, chain: list[RecoveryPoint]) -> None:
    assert mark_by_history(machine, [chain[1].pk], 2) == 2
    # The base belongs to the history, whether the owner kept it or not.
    assert carried(machine) == [True, True, False, False]


def test_the_owner_s_own_points_are_left_alone(
    machine: Machine, chain: list[RecoveryPoint]
) -> None:
    make_recovery_point(machine, parent_id=chain[1].pk, ownership_epoch=2)
    mark_by_history(machine, [chain[1].pk], 2)
    assert carried(machine) == [True, True, False, False, True]


def test_what_turns_out_to_be_there_is_carried_on_again(
    machine: Machine, chain: list[RecoveryPoint]
) -> None:
    mark_by_history(machine, [], 2)
    assert carried(machine) == [False] * 4
    mark_by_history(machine, [chain[3].pk], 2)
    assert carried(machine) == [True] * 4


def owned_there(machine: Machine) -> ReplicatedMachine:
    pairing = make_pairing()
    Machine.objects.filter(pk=machine.pk).update(
        owner_core_id=pairing.peer_core_id, owner_core_name=pairing.peer_name, ownership_epoch=2
    )
    return make_replicated(pairing, machine)


def test_a_site_that_comes_back_marks_what_it_never_sent(
    machine: Machine, chain: list[RecoveryPoint]
) -> None:
    replicated = owned_there(machine)
    replicated.last_point_at = chain[2].taken_at
    replicated.save(update_fields=["last_point_at"])
    assert mark_unsent(replicated.pairing) == 1
    assert mark_unsent(replicated.pairing) == 0
    assert carried(machine) == [True, True, True, False]


def test_nothing_is_marked_of_a_machine_that_is_owned_here(
    machine: Machine, chain: list[RecoveryPoint]
) -> None:
    replicated = make_replicated(make_pairing(), machine)
    assert mark_unsent(replicated.pairing) == 0


def test_a_branch_does_not_count_as_behind(machine: Machine, chain: list[RecoveryPoint]) -> None:
    replicated = make_replicated(make_pairing(), machine, last_point_at=chain[1].taken_at)
    refresh_lag([replicated])
    assert replicated.behind_points == 2
    RecoveryPoint.objects.filter(pk=chain[3].pk).update(is_carried_on=False)
    refresh_lag([replicated])
    assert replicated.behind_points == 1


def test_going_back_to_a_point_leaves_what_came_after_it(machine: Machine) -> None:
    final = make_recovery_point(machine, ownership_epoch=2)
    at_source = make_recovery_point(
        machine, parent_id=final.pk, ownership_epoch=3, taken_at=NOON + timedelta(hours=1)
    )
    Machine.objects.filter(pk=machine.pk).update(ownership_epoch=4)
    own = make_recovery_point(
        machine, parent_id=final.pk, ownership_epoch=4, taken_at=NOON + timedelta(hours=2)
    )
    assert keep_history_of(machine, final.pk) == 1
    assert keep_history_of(machine, uuid.uuid4()) == 0
    at_source.refresh_from_db()
    own.refresh_from_db()
    assert (at_source.is_carried_on, own.is_carried_on) == (False, True)
