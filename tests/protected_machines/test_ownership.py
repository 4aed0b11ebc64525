"""One machine, one owner: changes by compare-and-set, and a core that learns of another owner."""

import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from console.identity import this_core
from protected_machines import ownership
from protected_machines.errors import NotTheOwner, OwnershipDisputed
from protected_machines.models import Machine
from protected_machines.ownership import OwnershipClaim
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


def claim(epoch: int) -> OwnershipClaim:
    return OwnershipClaim(OtherCore().id, OtherCore().name, epoch, NOON)


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
@pytest.mark.parametrize(("epoch", "is_recorded"), [(1, False), (2, False), (3, True)])
def test_only_a_claim_of_a_higher_epoch_is_recorded(epoch: int, is_recorded: bool) -> None:
    machine = make_machine(ownership_epoch=2)
    assert ownership.record_owner(machine.pk, claim(epoch)) == is_recorded
    machine.refresh_from_db()
    assert machine.is_owned_here != is_recorded


@pytest.mark.django_db
def test_a_peer_that_says_another_core_took_over_stops_this_one(
    questions: list[ownership.PeerQuestion],
) -> None:
    machine = make_machine(ownership_epoch=1)
    ownership.register_peer_question(lambda asked: [claim(2)])
    ownership.check_owner(machine)
    with pytest.raises(NotTheOwner) as caught:
        ownership.check_owner(machine, ask=True)
    assert caught.value.owner_core_name == "Headquarters"
    assert caught.value.epoch == 2
    assert not Machine.objects.get(pk=machine.pk).is_owned_here


@pytest.mark.django_db
def test_a_machine_that_two_cores_claim_by_one_epoch_is_nobody_s(
    questions: list[ownership.PeerQuestion],
) -> None:
    machine = make_machine(ownership_epoch=2)
    ownership.register_peer_question(lambda asked: [claim(2)])
    with pytest.raises(OwnershipDisputed, match="with the same ownership epoch 2") as caught:
        ownership.check_owner(machine, ask=True)
    assert caught.value.code == "MACHINE-OWNERSHIP-DISPUTED"
    assert Machine.objects.get(pk=machine.pk).is_owned_here


@pytest.mark.django_db
def test_a_person_settles_it_by_an_epoch_above_every_other(
    questions: list[ownership.PeerQuestion],
) -> None:
    machine = make_machine(name="db-01", ownership_epoch=2)
    ownership.register_peer_question(lambda asked: [claim(5)])
    call_command("claim_machine", "db-01")
    ownership.check_owner(machine, ask=True)
    assert machine.ownership_epoch == 6
    with pytest.raises(CommandError, match="knows 0 machines named web-01"):
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
