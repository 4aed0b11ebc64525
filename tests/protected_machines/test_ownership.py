"""One machine, one owner: changes by compare-and-set, and a core that learns of another owner."""

import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from pytest_django import DjangoAssertNumQueries

from console.identity import this_core
from protected_machines import ownership
from protected_machines.choices import MachineKind
from protected_machines.claims import Judgement, OwnershipClaim, Speaker
from protected_machines.errors import NotTheOwner, OwnershipContradictory, OwnershipDisputed
from protected_machines.models import Machine
from tests.factories import NOON, make_machine


@dataclass(frozen=True)
class OtherCore:
    id: str = "5f6b4b3e-0000-4000-8000-000000000001"
    name: str = "Headquarters"


@pytest.fixture
def questions() -> Iterator[list[ownership.PeerQuestion]]:
    """The registered questions, put back as they were afterwards."""
    before = list(ownership._peer_questions)
    ownership._peer_questions.clear()
    yield ownership._peer_questions
    ownership._peer_questions[:] = before


HQ = OtherCore()
# Headquarters as the target core of this one, and as one that does not share the machine.
TARGET = Speaker(HQ.id, HQ.name, shares_machine=True, may_take_over=True)
STRANGER = Speaker(HQ.id, HQ.name, shares_machine=False, may_take_over=False)


def claim(epoch: int) -> OwnershipClaim:
    return OwnershipClaim(HQ.id, HQ.name, epoch, NOON)


def agreement(epoch: int) -> OwnershipClaim:
    """What a core says that knows this one as the owner."""
    return OwnershipClaim(this_core().id, this_core().name, epoch, NOON)


def make_disputed(**changes: Any) -> Machine:
    """A machine of this core that Headquarters claims with epoch 5."""
    machine = make_machine(**{"name": "db-01", "ownership_epoch": 2, **changes})
    assert ownership.hear_claim(machine, claim(5), STRANGER) is Judgement.DISPUTED
    return machine


@pytest.mark.django_db
def test_taking_ownership_raises_the_epoch() -> None:
    machine = make_machine(
        owner_core_id=uuid.UUID(OtherCore().id), owner_core_name="Headquarters", ownership_epoch=3
    )
    assert ownership.take_ownership(machine.pk, this_core(), expected_epoch=3)
    machine.refresh_from_db()
    assert machine.is_owned_here
    assert machine.ownership_epoch == 4
    ownership.check_owner(machine)


@pytest.mark.django_db
def test_taking_ownership_of_an_epoch_that_has_passed_changes_nothing() -> None:
    machine = make_machine(ownership_epoch=3)
    assert not ownership.take_ownership(machine.pk, OtherCore(), expected_epoch=2)
    machine.refresh_from_db()
    assert machine.is_owned_here


@pytest.mark.django_db
def test_ownership_can_be_given_back_only_with_a_higher_epoch() -> None:
    machine = make_machine(ownership_epoch=1)
    assert ownership.take_ownership(machine.pk, OtherCore(), expected_epoch=1)
    machine.refresh_from_db()
    assert (machine.owner_core_name, machine.ownership_epoch) == ("Headquarters", 2)
    with pytest.raises(NotTheOwner, match="owned by Headquarters since"):
        ownership.check_owner(machine)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(1, Judgement.STALE), (2, Judgement.DISPUTED), (3, Judgement.NEWS)],
)
def test_a_target_takes_over_by_a_higher_epoch_only(epoch: int, expected: Judgement) -> None:
    machine = make_machine(ownership_epoch=2)
    assert ownership.hear_claim(machine, claim(epoch), TARGET) is expected
    machine.refresh_from_db()
    assert machine.is_owned_here == (expected is not Judgement.NEWS)
    assert machine.is_disputed == (expected is Judgement.DISPUTED)


@pytest.mark.django_db
def test_what_disputes_the_owner_is_kept_beside_it() -> None:
    machine = make_disputed()
    machine.refresh_from_db()
    assert (machine.is_owned_here, machine.ownership_epoch) == (True, 2)
    assert (machine.claim_core_name, machine.claim_epoch) == ("Headquarters", 5)
    assert (machine.claim_speaker_name, machine.claim_owned_since) == ("Headquarters", NOON)
    since = machine.claim_heard_at
    # A higher claim replaces a lower one, and the time of the first stays.
    ownership.hear_claim(machine, claim(7), STRANGER)
    ownership.hear_claim(machine, claim(6), STRANGER)
    machine.refresh_from_db()
    assert (machine.claim_epoch, machine.claim_heard_at) == (7, since)


@pytest.mark.django_db
def test_a_claim_that_says_nothing_new_costs_no_query(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    machine, disputed = make_machine(ownership_epoch=2), make_disputed()
    with django_assert_num_queries(0):
        ownership.hear_claim(machine, agreement(2), TARGET)
        ownership.hear_claim(machine, claim(1), TARGET)
        ownership.hear_claim(disputed, claim(5), STRANGER)


@pytest.mark.django_db
def test_a_dispute_ends_when_the_core_it_was_heard_from_agrees() -> None:
    machine = make_disputed()
    third = Speaker(str(uuid.uuid4()), "Third", shares_machine=True, may_take_over=True)
    ownership.hear_claim(machine, agreement(2), third)
    assert machine.is_disputed
    ownership.hear_claim(machine, agreement(2), TARGET)
    machine.refresh_from_db()
    assert not machine.is_disputed
    ownership.check_owner(machine)


@pytest.mark.django_db
def test_a_dispute_ends_when_the_owner_allows_what_was_claimed() -> None:
    machine = make_disputed(ownership_epoch=5)
    ownership.hear_claim(machine, claim(6), TARGET)
    machine.refresh_from_db()
    assert (machine.owner_core_name, machine.is_disputed) == ("Headquarters", False)


@pytest.mark.django_db
def test_a_peer_that_says_another_core_took_over_stops_this_one(
    questions: list[ownership.PeerQuestion],
) -> None:
    machine = make_machine(ownership_epoch=1)
    ownership.register_peer_question(lambda asked: [(claim(2), TARGET)])
    ownership.check_owner(machine)
    with pytest.raises(NotTheOwner, match=r"owned by Headquarters since .* \(ownership epoch 2\)"):
        ownership.check_owner(machine, ask=True)
    assert not Machine.objects.get(pk=machine.pk).is_owned_here


@pytest.mark.django_db
def test_a_machine_that_two_cores_claim_by_one_epoch_is_nobody_s(
    questions: list[ownership.PeerQuestion],
) -> None:
    machine = make_machine(ownership_epoch=2)
    ownership.register_peer_question(lambda asked: [(claim(2), TARGET)])
    with pytest.raises(OwnershipDisputed, match="with ownership epoch 2"):
        ownership.check_owner(machine, ask=True)
    assert Machine.objects.get(pk=machine.pk).is_owned_here
    # Also without asking, until someone has settled it.
    with pytest.raises(OwnershipDisputed) as caught:
        ownership.check_owner(machine)
    assert caught.value.code == "MACHINE-OWNERSHIP-DISPUTED"
    assert ownership.act_refusal(machine) == "Its owner is disputed: choose Settle Owner first."
    with pytest.raises(OwnershipDisputed):
        ownership.Tenure(machine.pk, this_core().id, (2,)).check()
    assert not ownership.take_ownership(machine.pk, OtherCore(), expected_epoch=2)


@pytest.mark.django_db
@pytest.mark.parametrize("kind", [MachineKind.REPLICATED, MachineKind.FAILED_BACK])
def test_a_core_that_owns_a_mere_copy_says_so(kind: MachineKind) -> None:
    machine = make_machine(kind=kind)
    with pytest.raises(OwnershipContradictory, match="but does not protect it") as caught:
        ownership.check_owner(machine)
    assert caught.value.code == "MACHINE-OWNERSHIP-CONTRADICTORY"
    assert list(Machine.objects.with_owner_trouble()) == [machine]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "kind",
    [MachineKind.PENDING_FAILOVER, MachineKind.FAILED_OVER, MachineKind.PENDING_FAILBACK],
)
def test_a_core_that_runs_what_another_owns_says_so(kind: MachineKind) -> None:
    machine = make_machine(kind=kind, owner_core_id=uuid.UUID(HQ.id), owner_core_name=HQ.name)
    with pytest.raises(NotTheOwner, match="owned by Headquarters"):
        ownership.check_owner(machine)
    with pytest.raises(OwnershipContradictory, match="Headquarters owns"):
        ownership.check_settled(machine)
    assert "so this core does not protect it" in ownership.trouble_text(machine)
    refusal = "Its owner is contradictory: choose Settle Owner first."
    assert ownership.act_refusal(machine) == refusal
    assert list(Machine.objects.with_owner_trouble()) == [machine]


@pytest.mark.django_db
def test_each_combination_of_owner_and_kind_has_one_trouble_by_row_and_by_query() -> None:
    for kind in MachineKind:
        for owner in (this_core().id, HQ.id):
            make_machine(kind=kind, owner_core_id=uuid.UUID(owner), source_core_id=uuid.UUID(HQ.id))
    troubled = set(Machine.objects.with_owner_trouble())
    assert troubled == {one for one in Machine.objects.all() if ownership.ownership_trouble(one)}
    assert len(troubled) == 5


@pytest.mark.django_db
def test_a_person_settles_it_by_an_epoch_above_every_other(
    questions: list[ownership.PeerQuestion],
) -> None:
    machine = make_machine(name="db-01", ownership_epoch=2)
    ownership.register_peer_question(lambda asked: [(claim(5), STRANGER)])
    call_command("claim_machine", "db-01")
    ownership.check_owner(machine, ask=True)
    assert machine.ownership_epoch == 6
    with pytest.raises(CommandError, match="knows no machine named web-01"):
        call_command("claim_machine", "web-01")


@pytest.mark.django_db
def test_peers_that_are_silent_claim_nothing(questions: list[ownership.PeerQuestion]) -> None:
    machine = make_machine()
    ownership.register_peer_question(lambda asked: [])
    ownership.check_owner(machine, ask=True)


@pytest.mark.django_db(transaction=True)
def test_of_two_that_take_ownership_at_once_exactly_one_wins() -> None:
    machine = make_machine(ownership_epoch=1)
    start = threading.Barrier(2)
    wins = []

    def take(core: ownership.Core) -> None:
        start.wait(10)
        wins.append(ownership.take_ownership(machine.pk, core, expected_epoch=1))
        connections.close_all()

    threads = [threading.Thread(target=take, args=(core,)) for core in (this_core(), OtherCore())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(wins) == [False, True]
    machine.refresh_from_db()
    assert machine.ownership_epoch == 2
