"""What the Fail Over and Failback dialogs share: the machines to choose from, and the refusal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

from django import forms

from console.findings import Finding
from console.jobs.choices import JobState
from console.jobs.models import Job
from protected_machines.choices import MachineKind
from replication.models import Pairing, ReplicatedMachine

# Nobody can judge more than this in one dialog; it says how many are not listed.
MACHINES_SHOWN = 50


NO_REASON = "Say why: a failover or failback needs a reason, which the audit log keeps."


class Judged(Protocol):
    """One machine of an order, with what was found about it, errors first."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def findings(self) -> Sequence[Finding]:
        """Its errors and warnings."""


def refusal_of(machines: Sequence[Judged]) -> str:
    """Return why an order for these machines cannot start, in one sentence; empty if it can."""
    if not machines:
        return "Select at least one machine."
    for machine in machines:
        for finding in machine.findings:
            if finding.is_error:
                return f"{machine.name}: {finding.text}"
    return ""


class DraftedMachine(Judged, Protocol):
    """One machine in such a dialog."""

    @property
    def is_chosen(self) -> bool:
        """Whether it is selected."""

    @property
    def form(self) -> forms.Form:
        """What was entered for it."""


M = TypeVar("M", bound=DraftedMachine)


@dataclass
class Draft(Generic[M]):
    """The act that would start now."""

    pairing: Pairing
    form: forms.Form
    machines: Sequence[M]
    left_out: int
    # Why there are no machines to choose from.
    nothing_text: str

    @property
    def chosen(self) -> list[M]:
        return [machine for machine in self.machines if machine.is_chosen]

    @property
    def refusal(self) -> str:
        """Why it cannot start, in one sentence; empty if it can."""
        return refusal_of(self.chosen) if self.machines else self.nothing_text

    def as_checked(self) -> Self:
        """Return it for showing while it is filled in: a reason still to come is no error."""
        self.form.errors.pop("reason", None)
        return self

    def is_valid(self) -> bool:
        """Tell whether it can start. Validates every form, so that all errors are shown."""
        forms_asked = [self.form.is_valid(), *[machine.form.is_valid() for machine in self.chosen]]
        return all(forms_asked) and not self.refusal


def find_candidates(
    pairing: Pairing, kind: MachineKind, only: ReplicatedMachine | None
) -> tuple[list[ReplicatedMachine], int]:
    """Return the machines to choose from, by name, and how many more there are.

    only: the machine whose own menu was used, whatever its kind.
    """
    wanted = pairing.machines.select_related("machine", "pairing").order_by("machine__name", "pk")
    wanted = wanted.filter(machine__kind=kind) if only is None else wanted.filter(pk=only.pk)
    return list(wanted[:MACHINES_SHOWN]), max(0, wanted.count() - MACHINES_SHOWN)


def open_job_text(job: Job) -> str:
    """Return why an open job of a machine is in the way, and what to do."""
    what = f"{job.title} of {job.subject_name}, started by {job.requested_by_name},"
    if job.state == JobState.HELD:
        return f"{what} is held, since this core's database was restored. Release or close it."
    return f"{what} is still running. Wait until it has finished."
