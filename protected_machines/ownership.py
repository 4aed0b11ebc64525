"""Who owns a machine: the guard against two sites running the same one.

Ownership changes by compare-and-set on the ownership epoch. What other cores say about an owner is
judged (`claims.py`): it is known, it is news, or it disputes the owner that this core knows. A
machine whose owner is disputed, or whose kind contradicts its owner, is in *trouble*: this core
does not act on it, every page says so, and a person settles it (`settling.py`).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from django.utils import timezone

from console.audit.log import Subject, record
from console.identity import this_core
from console.sections import Notice
from protected_machines.choices import KINDS_OWNED_ELSEWHERE, KINDS_OWNED_HERE
from protected_machines.claims import Judgement, KnownOwner, OwnershipClaim, Speaker, judge_claim
from protected_machines.errors import (
    NotTheOwner,
    OwnerChanged,
    OwnershipContradictory,
    OwnershipDisputed,
)
from protected_machines.models import Machine

logger = logging.getLogger(__name__)

OWNER_FIELDS = ("owner_core_id", "owner_core_name", "ownership_epoch", "owned_since", "kind")
CLAIM_FIELDS = (
    "claim_core_id",
    "claim_core_name",
    "claim_epoch",
    "claim_owned_since",
    "claim_speaker_id",
    "claim_speaker_name",
    "claim_heard_at",
)
NO_CLAIM: dict[str, Any] = {
    "claim_core_id": None,
    "claim_core_name": "",
    "claim_epoch": None,
    "claim_owned_since": None,
    "claim_speaker_id": None,
    "claim_speaker_name": "",
    "claim_heard_at": None,
}
_MACHINES_NAMED = 5


class Core(Protocol):
    """A core as an owner: `console.identity.CoreIdentity` is one."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...


PeerQuestion = Callable[[Machine], list[tuple[OwnershipClaim, Speaker]]]
_peer_questions: list[PeerQuestion] = []


def register_peer_question(question: PeerQuestion) -> PeerQuestion:
    """Have `ask_peers` ask this question too. Usable as a decorator. Idempotent.

    A question returns the answers of the peers it reached. It raises nothing for a peer that it
    cannot reach: silence is not a claim.
    """
    if question not in _peer_questions:
        _peer_questions.append(question)
    return question


def ask_peers(machine: Machine) -> None:
    """Ask the other cores that hold copies of the machine who owns it, and record the answers."""
    for question in _peer_questions:
        for claim, speaker in question(machine):
            hear_claim(machine, claim, speaker)


def hear_claim(machine: Machine, claim: OwnershipClaim, speaker: Speaker) -> Judgement:
    """Record what another core says about the machine's owner; return what it means.

    News moves the ownership. A dispute is stored beside the owner, which stays. A dispute ends when
    the core that it was heard from agrees. A claim that says nothing new costs no query.
    """
    known = KnownOwner(str(machine.owner_core_id), machine.ownership_epoch)
    judgement = judge_claim(known, claim, speaker, this_core().id)
    changes = _changes(machine, judgement, claim, speaker)
    if not changes:
        return judgement
    won = Machine.objects.filter(
        pk=machine.pk, owner_core_id=machine.owner_core_id, ownership_epoch=known.epoch
    ).update(**changes)
    machine.refresh_from_db(fields=[*OWNER_FIELDS, *CLAIM_FIELDS])
    logger.warning(
        "claim heard machine_id=%s from_core_id=%s core_id=%s epoch=%s judgement=%s won=%s",
        machine.pk,
        speaker.core_id,
        claim.owner_core_id,
        claim.ownership_epoch,
        judgement.value,
        bool(won),
    )
    if won:
        _record_claim(machine, judgement, claim, speaker)
    # Somebody else changed the owner at the same moment: the claim may mean something else now.
    return judgement if won else hear_claim(machine, claim, speaker)


def _record_claim(
    machine: Machine, judgement: Judgement, claim: OwnershipClaim, speaker: Speaker
) -> None:
    is_disputed = judgement is Judgement.DISPUTED
    what = f"{claim.owner_core_name} owns {machine.name}"
    judged = "does not accept that" if is_disputed else "accepts it"
    record(
        "ownership:disputed" if is_disputed else "ownership:heard",
        f"{speaker.core_name} says that {what}, with ownership epoch {claim.ownership_epoch}. "
        f"This core {judged}.",
        Subject("machine", str(machine.pk), machine.name),
    )


def _changes(
    machine: Machine, judgement: Judgement, claim: OwnershipClaim, speaker: Speaker
) -> dict[str, Any]:
    """Return what to save."""
    if judgement is Judgement.DISPUTED:
        return _dispute(machine, claim, speaker)
    if judgement is Judgement.AGREES:
        is_ended = machine.is_disputed and str(machine.claim_speaker_id) == speaker.core_id
        return NO_CLAIM if is_ended else {}
    if judgement is not Judgement.NEWS:
        return {}
    is_ended = (
        str(machine.claim_speaker_id) == speaker.core_id
        or str(machine.claim_core_id) == claim.owner_core_id
        or (machine.claim_epoch or 0) < claim.ownership_epoch
    )
    return {
        "owner_core_id": claim.owner_core_id,
        "owner_core_name": claim.owner_core_name,
        "ownership_epoch": claim.ownership_epoch,
        "owned_since": claim.owned_since,
        **(NO_CLAIM if machine.is_disputed and is_ended else {}),
    }


def _dispute(machine: Machine, claim: OwnershipClaim, speaker: Speaker) -> dict[str, Any]:
    """Return the claim as it is stored; of several, that with the highest epoch is kept."""
    if (machine.claim_epoch or 0) >= claim.ownership_epoch:
        return {}
    return {
        "claim_core_id": claim.owner_core_id,
        "claim_core_name": claim.owner_core_name,
        "claim_epoch": claim.ownership_epoch,
        "claim_owned_since": claim.owned_since,
        "claim_speaker_id": speaker.core_id,
        "claim_speaker_name": speaker.core_name,
        # Since when the owner is disputed, whoever joined in later.
        "claim_heard_at": machine.claim_heard_at or timezone.now(),
    }


class Trouble(StrEnum):
    """Why nobody may act on a machine until a person has settled who owns it."""

    DISPUTED = "disputed"
    CONTRADICTORY = "contradictory"

    @property
    def label(self) -> str:
        return f"Owner {self.value}"


def ownership_trouble(machine: Machine, core_id: str = "") -> Trouble | None:
    """Return the trouble with a machine's owner, by this row; none if there is none.

    core_id: that of this core, if it has been read already.
    """
    if machine.is_disputed:
        return Trouble.DISPUTED
    is_here = str(machine.owner_core_id) == (core_id or this_core().id)
    contradicting = KINDS_OWNED_ELSEWHERE if is_here else KINDS_OWNED_HERE
    return Trouble.CONTRADICTORY if machine.kind in contradicting else None


def trouble_text(machine: Machine) -> str:
    """Return the trouble in words, and what to do; empty if there is none."""
    trouble = ownership_trouble(machine)
    if trouble is None:
        return ""
    return f"{_TEXTS[trouble](machine)} Find out where it really runs, then choose Settle Owner."


def settle_first(machine: Machine) -> str:
    """Return why nothing can be done to the machine yet, in a line; empty if its owner is clear."""
    trouble = ownership_trouble(machine)
    return f"Its owner is {trouble.value}: choose Settle Owner first." if trouble else ""


def _disputed_text(machine: Machine) -> str:
    claimant, speaker = machine.claim_core_name, machine.claim_speaker_name
    says = (
        f"{claimant} claims {machine.name}"
        if machine.claim_core_id == machine.claim_speaker_id
        else f"{speaker} says that {claimant} owns {machine.name}"
    )
    return (
        f"{says} with ownership epoch {machine.claim_epoch}. According to this core, "
        f"{machine.owner_core_name} owns it with epoch {machine.ownership_epoch}. This core does "
        "not act on it until someone has settled that."
    )


def _contradictory_text(machine: Machine) -> str:
    kind = machine.get_kind_display().lower()
    if machine.is_owned_here:
        return (
            f"This core owns {machine.name} (ownership epoch {machine.ownership_epoch}), but does "
            f"not protect it: here it is {kind}."
        )
    return (
        f"{machine.owner_core_name} owns {machine.name} (ownership epoch "
        f"{machine.ownership_epoch}), but here it is {kind}, so this core does not protect it."
    )


_TEXTS: dict[Trouble, Callable[[Machine], str]] = {
    Trouble.DISPUTED: _disputed_text,
    Trouble.CONTRADICTORY: _contradictory_text,
}


def owner_notice() -> Notice | None:
    """Return what every page says while the owner of a machine has to be settled."""
    troubled = Machine.objects.with_owner_trouble().values_list("name", "claim_core_id")
    found = list(troubled[: _MACHINES_NAMED + 1])
    if not found:
        return None
    names = [name for name, _ in found]
    is_disputed = any(claimant for _, claimant in found)
    named = ", ".join(names[:_MACHINES_NAMED])
    if len(names) > _MACHINES_NAMED:
        named = f"{named} and others"
    text = (
        f"{named}: this core does not act on {'it' if len(names) == 1 else 'them'}. Open the "
        "machine's page, read why, then choose Settle Owner from its Actions menu."
    )
    code = OwnershipDisputed.code if is_disputed else OwnershipContradictory.code
    return Notice("bad", "Someone has to settle who owns a machine", text, code)


def check_settled(machine: Machine) -> None:
    """Check that it is clear who owns the machine, by this row.

    Raises:
        OwnershipDisputed: another core claims it.
        OwnershipContradictory: its kind contradicts its owner.
    """
    trouble = ownership_trouble(machine)
    if trouble is Trouble.DISPUTED:
        raise OwnershipDisputed(trouble_text(machine))
    if trouble is Trouble.CONTRADICTORY:
        raise OwnershipContradictory(trouble_text(machine))


def check_owner(machine: Machine, *, ask: bool = False) -> None:
    """Check that this core owns the machine. Refreshes `machine` from the database.

    With `ask`, other cores are asked first, and what they say is recorded.

    Raises:
        NotTheOwner: another core owns it.
        OwnershipDisputed, OwnershipContradictory: someone has to settle who does.
    """
    machine.refresh_from_db(fields=[*OWNER_FIELDS, *CLAIM_FIELDS])
    if ask:
        ask_peers(machine)
    if not machine.is_owned_here and not machine.is_disputed:
        raise NotTheOwner(
            f"{machine.name} is owned by {machine.owner_core_name} since "
            f"{machine.owned_since:%Y-%m-%d %H:%M:%S} UTC (ownership epoch "
            f"{machine.ownership_epoch}). Manage it at {machine.owner_core_name}."
        )
    check_settled(machine)


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
            OwnershipDisputed, OwnershipContradictory: someone has to settle who it is.
        """
        machine = Machine.objects.get(pk=self.machine_id)
        if (
            str(machine.owner_core_id) != self.owner_core_id
            or machine.ownership_epoch not in self.epochs
        ):
            raise OwnerChanged(
                machine.name, machine.owner_core_name, machine.ownership_epoch, self.epochs[0]
            )
        check_settled(machine)


def act_refusal(machine: Machine) -> str:
    """Return why this core may not act on the machine; empty if it may."""
    unsettled = settle_first(machine)
    if unsettled:
        return unsettled
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


def take_ownership(
    machine_id: UUID | str, core: Core, expected_epoch: int, now: datetime | None = None
) -> bool:
    """Make `core` the owner and raise the epoch by one; return whether this call won.

    Atomic: of several calls that expect the same epoch, exactly one wins. A disputed machine does
    not change its owner. To give ownership back, call it with the other core and the new epoch.
    """
    won = (
        Machine.objects.undisputed()
        .filter(pk=machine_id, ownership_epoch=expected_epoch)
        .update(
            owner_core_id=core.id,
            owner_core_name=core.name,
            ownership_epoch=expected_epoch + 1,
            owned_since=now or timezone.now(),
        )
    )
    logger.info(
        "take ownership machine_id=%s core_id=%s expected_epoch=%s won=%s",
        machine_id,
        core.id,
        expected_epoch,
        bool(won),
    )
    if won:
        name = Machine.objects.values_list("name", flat=True).get(pk=machine_id)
        _record_owner("taken", Subject("machine", str(machine_id), name), core, expected_epoch + 1)
    return bool(won)


def _record_owner(what: str, machine: Subject, core: Core, epoch: int) -> None:
    sentence = f"{core.name} owns {machine.name}, with ownership epoch {epoch}."
    record(f"ownership:{what}", sentence, machine)
