"""The Fail Over dialog: what it offers, what was entered, and the resulting order.

The dialog shows a draft. Continue drafts again from the posted form and starts that draft's order,
so what is refused is what was shown.
"""

import datetime
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from console.findings import Finding, has_errors
from protected_machines.choices import MachineKind, PointState
from protected_machines.exports.options import MIB
from protected_machines.models import RecoveryPoint, VCenter
from replication.drafts import Draft, find_candidates
from replication.failover.check import (
    CheckedMachine,
    FailoverCheck,
    FailoverFacts,
    check_failover,
    propose,
)
from replication.failover.destination import Survey
from replication.failover.forms import FailoverForm, FailoverMachineForm
from replication.failover.order import Destination, FailoverOrder, MachineOrder
from replication.models import Pairing, ReplicatedMachine
from replication.peers.fellows import refresh_fellows

DESTINATION_FIELDS = ("datacenter", "compute", "folder", "datastore", "network")


@dataclass
class DraftMachine:
    """One machine in the dialog."""

    form: FailoverMachineForm
    checked: CheckedMachine
    is_chosen: bool

    @property
    def replicated(self) -> ReplicatedMachine:
        return self.checked.replicated

    @property
    def point(self) -> RecoveryPoint | None:
        return self.checked.point

    @property
    def findings(self) -> list[Finding]:
        return self.checked.findings

    @property
    def name(self) -> str:
        return self.checked.name

    @property
    def key(self) -> str:
        return str(self.replicated.machine_id)


@dataclass
class FailoverDraft(Draft[DraftMachine]):
    """The failover that would start now."""

    check: FailoverCheck

    @property
    def vcenter(self) -> VCenter | None:
        return self.check.vcenter

    @property
    def order(self) -> FailoverOrder:
        """The order of a valid draft."""
        values = self.form.cleaned_data
        return replace(self.check.order, reason=values["reason"], request_id=values["request_id"])


def draft_failover(
    pairing: Pairing,
    now: datetime.datetime,
    sent: Mapping[str, Any] | None = None,
    *,
    is_strict: bool = False,
    only: ReplicatedMachine | None = None,
) -> FailoverDraft:
    """Draft a failover of the source core's machines, with its findings.

    sent: the dialog's form as posted; without it, defaults are used.
    is_strict: a choice that is no longer offered is refused instead of replaced, because an
        administrator has confirmed it.
    """
    refresh_fellows(pairing)
    rows, left_out = find_candidates(pairing, MachineKind.REPLICATED, only)
    facts = FailoverFacts(pairing, rows)
    forms = {row.machine_id: _machine_form(row, facts, sent) for row in rows}
    orders = [_machine_order(row, forms[row.machine_id], facts, sent) for row in rows]
    chosen = {one.machine_id for one in orders if _is_chosen(one, facts, now, sent)}
    check = check_failover(
        FailoverOrder(
            pairing_id=pairing.pk,
            destination=_wanted_destination(sent),
            machines=tuple(one for one in orders if one.machine_id in chosen),
        ),
        now,
        facts=facts,
        others=[one for one in orders if one.machine_id not in chosen],
        takes_defaults=not is_strict,
    )
    checked = {one.order.machine_id: one for one in [*check.machines, *check.others]}
    for key, form in forms.items():
        form.initial["is_chosen"] = key in chosen
    return FailoverDraft(
        pairing=pairing,
        form=_shared_form(sent, check.survey, is_strict),
        machines=[DraftMachine(form, checked[key], key in chosen) for key, form in forms.items()],
        left_out=left_out,
        nothing_text=f"No machines of {pairing.peer_name} can be failed over now.",
        check=check,
    )


def point_title(point: RecoveryPoint) -> str:
    """Return the point's entry in the list: when it was taken, and whether it is proven."""
    taken = f"{point.taken_at:%Y-%m-%d %H:%M:%S}"
    if point.state == PointState.PROVEN and point.proven_at is not None:
        return f"{taken}, proven {point.proven_at:%Y-%m-%d %H:%M}"
    return f"{taken}, {'damaged' if point.state == PointState.DAMAGED else 'not proven yet'}"


def _machine_form(
    row: ReplicatedMachine, facts: FailoverFacts, sent: Mapping[str, Any] | None
) -> FailoverMachineForm:
    proposed = propose(row, facts)
    return FailoverMachineForm(
        sent,
        prefix=str(row.machine_id),
        points=[(str(one.pk), point_title(one)) for one in facts.points.get(row.machine_id, [])],
        initial={
            "point": str(proposed.point_id or ""),
            "vm_name": proposed.vm_name,
            "cpus": proposed.cpus,
            "memory_mib": proposed.memory_bytes // MIB,
        },
    )


def _machine_order(
    row: ReplicatedMachine,
    form: FailoverMachineForm,
    facts: FailoverFacts,
    sent: Mapping[str, Any] | None,
) -> MachineOrder:
    """Return what was entered for a machine; an invalid field keeps its default."""
    order = propose(row, facts)
    if sent is None:
        return order
    form.is_valid()
    values = form.cleaned_data
    point = values.get("point")
    memory_mib = values.get("memory_mib")
    return replace(
        order,
        point_id=uuid.UUID(point) if point else None,
        vm_name=values.get("vm_name", ""),
        cpus=values.get("cpus", order.cpus),
        memory_bytes=memory_mib * MIB if memory_mib is not None else order.memory_bytes,
        keeps_macs=values.get("keeps_macs", False),
    )


def _is_chosen(
    order: MachineOrder,
    facts: FailoverFacts,
    now: datetime.datetime,
    sent: Mapping[str, Any] | None,
) -> bool:
    """Tell whether the machine is selected; initially, every machine that could start is."""
    if sent is not None:
        return bool(sent.get(f"{order.machine_id}-is_chosen"))
    return not has_errors(facts.findings_anywhere(order, now))


def _wanted_destination(sent: Mapping[str, Any] | None) -> Destination:
    if sent is None:
        return Destination()
    try:
        vcenter_id = uuid.UUID(str(sent.get("vcenter", "")))
    except ValueError:
        vcenter_id = None
    fields = {name: str(sent.get(name, "")) for name in DESTINATION_FIELDS}
    return Destination(vcenter_id=vcenter_id, **fields)


def _shared_form(sent: Mapping[str, Any] | None, survey: Survey, is_strict: bool) -> FailoverForm:
    choices = {name: survey.choices.get(name, []) for name in DESTINATION_FIELDS}
    choices["vcenter"] = [
        (str(one.pk), f"{one.name} ({one.host})") for one in VCenter.objects.all()
    ]
    chosen = survey.chosen
    effective = {name: getattr(chosen, name) for name in DESTINATION_FIELDS}
    effective["vcenter"] = str(chosen.vcenter_id or "")
    if sent is None:
        return FailoverForm(choices=choices, initial=effective)
    values = {name: sent.get(name, "") for name in ("reason", "request_id")}
    given = {name: sent.get(name, "") for name in effective} if is_strict else effective
    return FailoverForm({**values, **given}, choices=choices)
