"""Hear what a peer says about owners, with what it may do by its pairing.

A target core may take a machine that is replicated to it; that is what replication is for. A source
core may not, and neither may claim a machine that the pairing does not share. Another target of the
same source core may take a machine if that source core has said that it replicates it there too.
"""

import logging
from collections.abc import Collection, Iterable
from uuid import UUID

from console.identity import this_core
from protected_machines.choices import MachineKind
from protected_machines.claims import Judgement, OwnershipClaim, Speaker
from protected_machines.models import Machine
from protected_machines.ownership import hear_claim
from replication.models import FellowCore, Pairing
from replication.peers.wire import Ownership

logger = logging.getLogger(__name__)


def hear_from(pairing: Pairing, machine: Machine, claim: OwnershipClaim) -> Judgement:
    """Record a claim that came over this pairing; return what it means."""
    shares = pairing.machines.filter(machine_id=machine.pk).exists()
    return hear_claim(machine, claim, speaker_on(pairing, shares_machine=shares))


def hear_all(
    pairing: Pairing, told: Iterable[Ownership], shared_ids: Collection[UUID]
) -> list[UUID]:
    """Record the owners in a peer's status; return which of the machines are not on this pairing.

    The peer thinks that they are, so it has to be told what this core knows of them.

    One query, and more only for what is new: two cores exchange this every few seconds.

    shared_ids: the machines on this pairing.
    """
    told = list(told)
    if not told:
        return []
    unshared = []
    core_id = this_core().id
    known = Machine.objects.only(
        "owner_core_id", "ownership_epoch", "claim_core_id", "claim_epoch", "claim_speaker_id"
    ).in_bulk()
    for ownership in told:
        machine = known.get(ownership.machine_id)
        if machine is not None:
            shares = machine.pk in shared_ids
            if not shares:
                unshared.append(machine.pk)
            hear_claim(machine, ownership.claim, speaker_on(pairing, shares_machine=shares))
        elif str(ownership.owner_core_id) == core_id:
            _remember(pairing, ownership)
    return unshared


def _remember(pairing: Pairing, ownership: Ownership) -> None:
    """Add a machine that this core owns and does not know: its database is older than that.

    Until someone has settled it, its owner is contradictory.
    """
    machine = Machine.objects.create(
        pk=ownership.machine_id,
        name=ownership.machine_name or str(ownership.machine_id),
        kind=MachineKind.REPLICATED,
        owner_core_id=ownership.owner_core_id,
        owner_core_name=ownership.owner_core_name,
        ownership_epoch=ownership.ownership_epoch,
        owned_since=ownership.claim.owned_since,
        source_core_id=pairing.peer_core_id,
    )
    pairing.machines.create(machine=machine)
    logger.warning("forgotten machine machine_id=%s pairing_id=%s", machine.pk, pairing.pk)


def hear_fellow(fellow: FellowCore, told: Iterable[Ownership]) -> None:
    """Record which machines another target core owns, or has given back to the source core.

    What else it says is hearsay, and of no account.
    """
    claims = {ownership.machine_id: ownership.claim for ownership in told}
    rows = fellow.pairing.machines.select_related("machine").filter(machine_id__in=claims)
    fellow_id = str(fellow.core_id)
    for row in rows:
        claim = claims[row.machine_id]
        if fellow_id not in (claim.owner_core_id, str(row.machine.owner_core_id)):
            continue
        speaker = Speaker(
            core_id=fellow_id,
            core_name=fellow.name,
            shares_machine=fellow_id in row.fellow_core_ids,
            may_take_over=False,
            fellow_of=str(fellow.pairing.peer_core_id),
        )
        hear_claim(row.machine, claim, speaker)


def speaker_on(pairing: Pairing, *, shares_machine: bool) -> Speaker:
    """Return the peer as the core that a claim was heard from."""
    return Speaker(
        core_id=str(pairing.peer_core_id),
        core_name=pairing.peer_name,
        shares_machine=shares_machine,
        may_take_over=shares_machine and pairing.is_outgoing,
    )
