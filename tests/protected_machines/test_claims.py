"""What a claim means: a table of who knows what, who says what, and who may."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protected_machines.claims import (
    EPOCH_LIMIT,
    LARGEST_JUMP,
    NOBODY_ID,
    Judgement,
    KnownOwner,
    OwnershipClaim,
    Speaker,
    judge_claim,
)
from tests.factories import NOON

AGREES, NEWS, DISPUTED, STALE, FAULTY = Judgement

# This core and two others, of which "peer" is the one that speaks.
CORES = ("me", "peer", "third")
TARGET = Speaker("peer", "Peer", shares_machine=True, may_take_over=True)
SOURCE = Speaker("peer", "Peer", shares_machine=True, may_take_over=False)
STRANGER = Speaker("peer", "Peer", shares_machine=False, may_take_over=False)


def judge(known: tuple[str, int], claimed: tuple[str, int], speaker: Speaker) -> Judgement:
    claim = OwnershipClaim(claimed[0], claimed[0].title(), claimed[1], NOON)
    return judge_claim(KnownOwner(*known), claim, speaker, "me")


@pytest.mark.parametrize(
    ("speaker", "known", "claimed", "expected"),
    [
        # A failover by the target that it replicates to, and the target giving the machine back.
        (TARGET, ("me", 1), ("peer", 2), NEWS),
        (TARGET, ("peer", 2), ("me", 3), NEWS),
        (TARGET, ("peer", 2), ("peer", 4), NEWS),
        # A target never takes what another target has, nor speaks for a third core.
        (TARGET, ("third", 2), ("peer", 3), DISPUTED),
        (TARGET, ("me", 1), ("third", 2), DISPUTED),
        (TARGET, ("peer", 2), ("third", 3), DISPUTED),
        # A source raises the epoch of what it owns, and confirms what it has learnt.
        (SOURCE, ("peer", 1), ("peer", 3), NEWS),
        (SOURCE, ("peer", 1), ("me", 2), NEWS),
        # It does not take back what failed over, nor what another source owns.
        (SOURCE, ("me", 2), ("peer", 3), DISPUTED),
        (SOURCE, ("third", 1), ("peer", 2), DISPUTED),
        (SOURCE, ("peer", 1), ("third", 2), DISPUTED),
        # This core was restored from a backup: it owns the machine, with a higher epoch.
        (TARGET, ("me", 1), ("me", 3), NEWS),
        (SOURCE, ("me", 2), ("me", 4), NEWS),
        # A machine that the two do not share is not the peer's to claim.
        (STRANGER, ("me", 1), ("peer", 2), DISPUTED),
        (STRANGER, ("third", 1), ("peer", 2), DISPUTED),
        (STRANGER, ("me", 1), ("me", 2), DISPUTED),
        # Introduced after its points had arrived on a seed drive.
        (STRANGER, ("peer", 1), ("peer", 1), AGREES),
        (STRANGER, ("peer", 1), ("peer", 3), NEWS),
        (STRANGER, (NOBODY_ID, 1), ("peer", 1), NEWS),
        (STRANGER, (NOBODY_ID, 1), ("third", 1), DISPUTED),
        # The peer has not yet heard.
        (SOURCE, ("me", 2), ("peer", 1), STALE),
        (TARGET, ("peer", 4), ("peer", 2), STALE),
        # Nobody's epoch is higher.
        (TARGET, ("me", 2), ("peer", 2), DISPUTED),
        # No failover raises an epoch like that.
        (TARGET, ("me", 1), ("peer", 1 + LARGEST_JUMP), NEWS),
        (TARGET, ("me", 1), ("peer", 2 + LARGEST_JUMP), DISPUTED),
        (SOURCE, ("peer", 1), ("peer", 2 + LARGEST_JUMP), DISPUTED),
        (TARGET, ("me", 1), ("peer", EPOCH_LIMIT + 1), FAULTY),
        (TARGET, ("peer", 1), ("peer", 0), FAULTY),
    ],
)
def test_what_a_claim_means(
    speaker: Speaker, known: tuple[str, int], claimed: tuple[str, int], expected: Judgement
) -> None:
    assert judge(known, claimed, speaker) is expected


EPOCHS = st.integers(min_value=1, max_value=5)
SPEAKERS = st.sampled_from([TARGET, SOURCE, STRANGER])


@given(SPEAKERS, st.sampled_from(CORES), EPOCHS, st.sampled_from(CORES), EPOCHS)
def test_a_machine_moves_only_to_or_from_this_core_and_only_up(
    speaker: Speaker, owner: str, epoch: int, claimant: str, claimed: int
) -> None:
    judgement = judge((owner, epoch), (claimant, claimed), speaker)
    if judgement is NEWS:
        assert claimed > epoch
        assert owner == claimant or {owner, claimant} == {"me", "peer"}
        assert speaker.shares_machine or owner == claimant == "peer"


@given(SPEAKERS, st.sampled_from(["me", "third"]), EPOCHS, EPOCHS)
def test_a_core_to_which_nothing_is_replicated_never_takes_a_machine(
    speaker: Speaker, owner: str, epoch: int, claimed: int
) -> None:
    if not speaker.may_take_over:
        assert judge((owner, epoch), ("peer", claimed), speaker) in (DISPUTED, STALE)
