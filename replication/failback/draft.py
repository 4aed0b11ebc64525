"""The Failback dialog: what it offers, what was entered, and the resulting order.

The dialog shows a draft. Start Failback drafts again from the posted form and starts that draft's
order, so what is refused is what was shown.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from console.findings import Finding
from protected_machines.choices import MachineKind
from protected_machines.models import RecoveryPoint
from protected_machines.restores.mapping import DiskMapping
from replication.drafts import Draft, find_candidates
from replication.failback.check import CheckedMachine, FailbackCheck, check_failback
from replication.failback.forms import FailbackForm, FailbackMachineForm
from replication.failback.order import FailbackOrder, MachineOrder, RescueAddress
from replication.failback.quote import Quote
from replication.models import Pairing, ReplicatedMachine


@dataclass
class DraftMachine:
    """One machine in the dialog."""

    form: FailbackMachineForm
    checked: CheckedMachine
    is_chosen: bool

    @property
    def replicated(self) -> ReplicatedMachine:
        return self.checked.replicated

    @property
    def point(self) -> RecoveryPoint | None:
        return self.checked.point

    @property
    def mapping(self) -> DiskMapping | None:
        return self.checked.mapping

    @property
    def findings(self) -> list[Finding]:
        return self.checked.findings

    @property
    def name(self) -> str:
        return self.checked.name

    @property
    def key(self) -> str:
        return self.checked.key


@dataclass
class FailbackDraft(Draft[DraftMachine]):
    """The failback that would start now."""

    check: FailbackCheck

    @property
    def source_trouble_text(self) -> str:
        return self.check.source_trouble_text

    @property
    def needs_new_source(self) -> bool:
        return self.check.needs_new_source

    @property
    def quote(self) -> Quote | None:
        return self.check.quote

    @property
    def knows_disks(self) -> bool:
        return self.check.knows_disks

    @property
    def order(self) -> FailbackOrder:
        """The order of a valid draft."""
        return self.check.order


def draft_failback(
    pairing: Pairing,
    now: datetime.datetime,
    sent: Mapping[str, Any] | None = None,
    *,
    only: ReplicatedMachine | None = None,
) -> FailbackDraft:
    """Draft a failback of the machines that run here, with its quote and findings."""
    rows, left_out = find_candidates(pairing, MachineKind.FAILED_OVER, only)
    form = FailbackForm(sent)
    forms = {
        row.machine_id: FailbackMachineForm(
            sent, prefix=str(row.machine_id), initial={"is_chosen": True}
        )
        for row in rows
    }
    chosen = {key for key in forms if sent is None or bool(sent.get(f"{key}-is_chosen"))}
    orders = [
        MachineOrder(key, _rescue_of(one) if sent is not None and key in chosen else None)
        for key, one in forms.items()
    ]
    check = check_failback(
        FailbackOrder(
            pairing_id=pairing.pk,
            machines=tuple(one for one in orders if one.machine_id in chosen),
            **(_shared_values(form) if sent is not None else {}),
        ),
        now,
        rows=rows,
        others=[one for one in orders if one.machine_id not in chosen],
    )
    checked = {one.order.machine_id: one for one in [*check.machines, *check.others]}
    return FailbackDraft(
        pairing=pairing,
        form=form,
        machines=[DraftMachine(one, checked[key], key in chosen) for key, one in forms.items()],
        left_out=left_out,
        nothing_text=f"No machines of {pairing.peer_name} run here.",
        check=check,
    )


def _shared_values(form: FailbackForm) -> dict[str, Any]:
    """Return what was entered for all machines; an invalid field keeps its default."""
    form.is_valid()
    return dict(form.cleaned_data)


def _rescue_of(form: FailbackMachineForm) -> RescueAddress | None:
    """Return the address of the rescue machine once it has been entered completely."""
    if not form.is_valid():
        return None
    values = form.cleaned_data
    return RescueAddress(values["host"], values["port"], values["code"])
