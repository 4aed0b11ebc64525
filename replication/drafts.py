"""What the dialogs Fail Over and Failback share: machines to choose from, and a refusal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from django import forms

from console.findings import Finding
from protected_machines.choices import MachineKind
from replication.models import Pairing, ReplicatedMachine

# More in one dialog cannot be weighed by anybody; it says how many are left out.
MACHINES_SHOWN = 50


class DraftedMachine(Protocol):
    """One machine in such a dialog."""

    is_chosen: bool
    findings: list[Finding]

    @property
    def form(self) -> forms.Form:
        """What was typed for it."""

    @property
    def name(self) -> str:
        """What it is called."""


M = TypeVar("M", bound=DraftedMachine)


@dataclass
class Draft(Generic[M]):
    """The act as it would start now."""

    pairing: Pairing
    form: forms.Form
    machines: Sequence[M]
    left_out: int
    # Why there is no machine to choose.
    nothing_text: str

    @property
    def chosen(self) -> list[M]:
        return [machine for machine in self.machines if machine.is_chosen]

    @property
    def refusal(self) -> str:
        """Why it cannot start, in one sentence; empty when it can."""
        if not self.machines:
            return self.nothing_text
        if not self.chosen:
            return "Choose at least one machine."
        for machine in self.chosen:
            for finding in machine.findings:
                if finding.is_error:
                    return f"{machine.name}: {finding.text}"
        return ""

    def is_valid(self) -> bool:
        """Tell whether what was sent can be started; asks every form, so that all errors show."""
        forms_asked = [self.form.is_valid(), *[machine.form.is_valid() for machine in self.chosen]]
        return all(forms_asked) and not self.refusal


def find_candidates(
    pairing: Pairing, kind: MachineKind, only: ReplicatedMachine | None
) -> tuple[list[ReplicatedMachine], int]:
    """Return the machines to choose from, by name, and how many more there are.

    only: the machine whose own row was used, whatever its kind.
    """
    wanted = pairing.machines.select_related("machine", "pairing").order_by("machine__name", "pk")
    wanted = wanted.filter(machine__kind=kind) if only is None else wanted.filter(pk=only.pk)
    return list(wanted[:MACHINES_SHOWN]), max(0, wanted.count() - MACHINES_SHOWN)
