"""Judge what another core says about a machine's owner. Pure: facts in, a judgement out.

Ownership moves only by an act that the present owner allowed beforehand or does now. By replicating
a machine to a core, its owner allows that core to take it by a failover; in a failback, and when a
failover is undone, the owner gives it. Whatever else claims a machine makes it disputed.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from uuid import UUID

# No message may state a higher epoch; in the database it can still rise from there.
EPOCH_LIMIT = 1 << 31
# Epochs rise by one or two with each failover and failback. More than this is no such act.
LARGEST_JUMP = 1000
# The owner of a machine whose points were imported by hand.
NOBODY_ID = str(UUID(int=0))


@dataclass(frozen=True)
class OwnershipClaim:
    """What a core says about a machine's owner."""

    owner_core_id: str
    owner_core_name: str
    ownership_epoch: int
    owned_since: datetime


@dataclass(frozen=True)
class KnownOwner:
    """The owner of a machine as this core knows it."""

    core_id: str
    epoch: int


@dataclass(frozen=True)
class Speaker:
    """The core that a claim was heard from, and what it may do with the machine.

    shares_machine: one of the two cores replicates the machine to the other.
    may_take_over: this core replicates the machine to that one.
    fellow_of: the source core that replicates the machine to both cores; empty if the speaker is
        paired with this core.
    """

    core_id: str
    core_name: str
    shares_machine: bool
    may_take_over: bool
    fellow_of: str = ""


class Judgement(Enum):
    """What a claim means to a core that knows an owner already."""

    AGREES = "agrees"
    # The owner has changed, or has a higher epoch, by an act that it allowed.
    NEWS = "news"
    DISPUTED = "disputed"
    # The speaker has not yet heard of a change that this core knows.
    STALE = "stale"
    FAULTY = "faulty"


def judge_claim(
    known: KnownOwner, claim: OwnershipClaim, speaker: Speaker, this_core_id: str
) -> Judgement:
    """Return what the claim means. Of two claims with one epoch, neither is newer."""
    if not 1 <= claim.ownership_epoch <= EPOCH_LIMIT:
        return Judgement.FAULTY
    is_same_owner = claim.owner_core_id == known.core_id
    if claim.ownership_epoch < known.epoch:
        return Judgement.STALE
    if claim.ownership_epoch == known.epoch and is_same_owner:
        return Judgement.AGREES
    if claim.ownership_epoch > known.epoch + LARGEST_JUMP:
        return Judgement.DISPUTED
    if is_same_owner:
        is_allowed = known.core_id == speaker.core_id or (
            known.core_id == this_core_id and speaker.shares_machine
        )
    else:
        is_allowed = _may_move(known, claim, speaker, this_core_id)
    return Judgement.NEWS if is_allowed else Judgement.DISPUTED


def _may_move(
    known: KnownOwner, claim: OwnershipClaim, speaker: Speaker, this_core_id: str
) -> bool:
    """Whether the present owner allows the claimant to own the machine."""
    if known.core_id == NOBODY_ID:
        return claim.owner_core_id == speaker.core_id
    if claim.ownership_epoch == known.epoch or not speaker.shares_machine:
        return False
    if known.core_id == speaker.core_id:
        return claim.owner_core_id in (this_core_id, speaker.fellow_of)
    allowing = this_core_id if speaker.may_take_over else speaker.fellow_of
    return known.core_id == allowing and claim.owner_core_id == speaker.core_id
