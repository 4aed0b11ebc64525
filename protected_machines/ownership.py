"""Who owns a machine: the guard against two sites running the same one.

Ownership changes by compare-and-set on the ownership epoch, which only rises. A core that learns
of a higher epoch elsewhere records it and stops acting on the machine.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from django.utils import timezone

from protected_machines.errors import NotTheOwner, OwnerChanged, OwnershipDisputed
from protected_machines.models import Machine

logger = logging.getLogger(__name__)


class Core(Protocol):
    """A core as an owner: `console.identity.CoreIdentity` is one."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class OwnershipClaim:
    """What a core says about a machine's owner."""

    owner_core_id: str
    owner_core_name: str
    ownership_epoch: int
    owned_since: datetime


PeerQuestion = Callable[[Machine], list[OwnershipClaim]]
_peer_questions: list[PeerQuestion] = []


def register_peer_question(question: PeerQuestion) -> PeerQuestion:
    """Have `ask_peers` ask this question too. Usable as a decorator. Idempotent.

    A question returns the answers of the peers it reached. It raises nothing for a peer that it
    cannot reach: silence is not a claim.
    """
    if question not in _peer_questions:
        _peer_questions.append(question)
    return question


def ask_peers(machine: Machine) -> list[OwnershipClaim]:
    """Return what the other cores that hold copies of the machine say about its owner."""
    return [claim for question in _peer_questions for claim in question(machine)]


def check_owner(machine: Machine, *, ask: bool = False) -> None:
    """Check that this core owns the machine. Refreshes `machine` from the database.

    With `ask`, other cores are asked first, and a claim with a higher epoch is recorded.

    Raises:
        NotTheOwner: another core owns it.
        OwnershipDisputed: another core claims it with the same epoch.
    """
    claims = ask_peers(machine) if ask else []
    for claim in claims:
        record_owner(machine.pk, claim)
    machine.refresh_from_db(
        fields=["owner_core_id", "owner_core_name", "ownership_epoch", "owned_since", "kind"]
    )
    if not machine.is_owned_here:
        raise NotTheOwner(
            machine.name, machine.owner_core_name, machine.owned_since, machine.ownership_epoch
        )
    for claim in claims:
        if disputes(claim, machine):
            raise OwnershipDisputed(
                machine.name, claim.owner_core_name, claim.owned_since, claim.ownership_epoch
            )


@dataclass(frozen=True)
class Tenure:
    """The owner and the epochs by which a job may touch a machine's VM.

    An undo that takes the machine back raises the epoch, so there may be more than one.
    """

    machine_id: UUID
    owner_core_id: str
    epochs: tuple[int, ...]

    def check(self) -> None:
        """Look the owner up, right before the VM is touched.

        Raises:
            OwnerChanged: it is another one, or has another epoch.
        """
        machine = Machine.objects.get(pk=self.machine_id)
        if (
            str(machine.owner_core_id) != self.owner_core_id
            or machine.ownership_epoch not in self.epochs
        ):
            raise OwnerChanged(
                machine.name, machine.owner_core_name, machine.ownership_epoch, self.epochs[0]
            )


def act_refusal(machine: Machine) -> str:
    """Return why this core may not act on the machine; empty if it may."""
    if not machine.is_owned_here:
        return (
            f"{machine.owner_core_name} has owned this machine since "
            f"{machine.owned_since:%Y-%m-%d %H:%M} UTC (ownership epoch "
            f"{machine.ownership_epoch}). Only the owner protects and manages it."
        )
    if not machine.is_live:
        return (
            f"This core does not protect this machine ({machine.get_kind_display().lower()}), "
            "so it has no agent to contact."
        )
    return ""


def disputes(claim: OwnershipClaim, machine: Machine) -> bool:
    """Tell whether a claim names another owner than this core knows, with the same epoch.

    This never happens in normal operation, but can after a database is restored from a backup.
    """
    return claim.ownership_epoch == machine.ownership_epoch and claim.owner_core_id != str(
        machine.owner_core_id
    )


def take_ownership(
    machine_id: UUID | str, core: Core, expected_epoch: int, now: datetime | None = None
) -> bool:
    """Make `core` the owner and raise the epoch by one; return whether this call won.

    Atomic: of several calls that expect the same epoch, exactly one wins. To give ownership back,
    call it with the other core and the new epoch.
    """
    won = Machine.objects.filter(pk=machine_id, ownership_epoch=expected_epoch).update(
        owner_core_id=core.id,
        owner_core_name=core.name,
        ownership_epoch=expected_epoch + 1,
        owned_since=now or timezone.now(),
    )
    logger.info(
        "take ownership machine_id=%s core_id=%s expected_epoch=%s won=%s",
        machine_id,
        core.id,
        expected_epoch,
        bool(won),
    )
    return bool(won)


def record_owner(machine_id: UUID | str, claim: OwnershipClaim) -> bool:
    """Save an owner learned from another core if its epoch is higher than the one known here."""
    changed = Machine.objects.filter(
        pk=machine_id, ownership_epoch__lt=claim.ownership_epoch
    ).update(
        owner_core_id=claim.owner_core_id,
        owner_core_name=claim.owner_core_name,
        ownership_epoch=claim.ownership_epoch,
        owned_since=claim.owned_since,
    )
    if changed:
        logger.warning(
            "record owner machine_id=%s core_id=%s epoch=%s",
            machine_id,
            claim.owner_core_id,
            claim.ownership_epoch,
        )
    return bool(changed)


def accepts_claim(
    owner_core_id: str, owner_epoch: int, claimant_core_id: str, claimed_epoch: int
) -> bool:
    """Tell whether one core believes another's claim to own a machine.

    It does if it knows the claimant as the owner already, or if the claimed epoch is higher:
    epochs only rise, so a higher one is newer.
    """
    return owner_core_id == claimant_core_id or claimed_epoch > owner_epoch
