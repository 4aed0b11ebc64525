"""Every change of a machine's owner is in the audit log, with who caused it."""

import uuid
from datetime import timedelta

import pytest

from console.audit.choices import ActorKind
from console.audit.door import Actor, come_in
from console.audit.log import chain_pending
from console.audit.models import Entry
from console.identity import this_core
from protected_machines.claims import OwnershipClaim, Speaker
from protected_machines.ownership import hear_claim, take_ownership
from protected_machines.settling import accept_claim
from tests.factories import NOON, make_machine

pytestmark = pytest.mark.django_db

DR_SITE = str(uuid.UUID(int=9))
CLAIM = OwnershipClaim(DR_SITE, "DR site", 5, NOON + timedelta(hours=1))


def recorded() -> list[tuple[str, str, str]]:
    chain_pending()
    return [(one.act, one.actor_name, one.sentence) for one in Entry.objects.order_by("number")]


def speaker(may_take_over: bool) -> Speaker:
    return Speaker(DR_SITE, "DR site", shares_machine=True, may_take_over=may_take_over)


def test_owner_that_is_taken_is_recorded_and_a_lost_race_is_not() -> None:
    machine = make_machine(name="web-01")

    assert take_ownership(machine.pk, this_core(), machine.ownership_epoch)
    assert not take_ownership(machine.pk, this_core(), machine.ownership_epoch)

    epoch = machine.ownership_epoch + 1
    sentence = f"Test core owns web-01, with ownership epoch {epoch}."
    assert recorded() == [("ownership:taken", "Test core", sentence)]


def test_owner_that_another_core_reports_is_recorded_as_its_act() -> None:
    machine = make_machine(name="web-01")

    with come_in(Actor(ActorKind.CORE, "DR site", DR_SITE, "192.0.2.9")):
        hear_claim(machine, CLAIM, speaker(may_take_over=True))
        hear_claim(machine, CLAIM, speaker(may_take_over=True))

    said = "DR site says that DR site owns web-01, with ownership epoch 5. This core accepts it."
    assert recorded() == [("ownership:heard", "DR site", said)]


def test_dispute_and_its_settlement_are_recorded() -> None:
    machine = make_machine(name="web-01")

    hear_claim(machine, CLAIM, speaker(may_take_over=False))
    accept_claim(machine)

    (disputed, _, said), (settled, _, result) = recorded()
    assert (disputed, settled) == ("ownership:disputed", "ownership:settled")
    assert said.endswith("This core does not accept that.")
    assert result.startswith("DR site owns web-01, with ownership epoch 5; here it is ")
