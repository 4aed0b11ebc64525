"""A failback before it starts: what can be chosen, its quote, what speaks against it, the start.

The dialog shows a draft; Start Failback makes it anew from what was sent and refuses by the same
findings. To look at a rescue machine the source core pairs with it; nothing is written to it.
"""

import datetime
import hashlib
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core.cache import cache
from django.db.models import Q

from agent.client.description import MachineDescription
from agent.errors import ProtocolBroken, WrongPairingCode
from console.findings import Finding
from console.jobs.choices import OPEN
from console.jobs.models import Job
from console.wording import bytes_human
from protected_machines.choices import ConnectionState, MachineKind
from protected_machines.errors import ProtectedMachinesError
from protected_machines.models import RecoveryPoint
from protected_machines.points.proofs import get_manifest
from protected_machines.restores.plan import DiskMapping, map_disks
from replication.drafts import Draft, find_candidates
from replication.errors import (
    FailbackRefused,
    PeerCertificateChanged,
    PeerRefusedSecret,
    ReplicationError,
)
from replication.failback import policy
from replication.failback import quote as failback_quote
from replication.failback.facts import quote_facts
from replication.failback.forms import FailbackForm, FailbackMachineForm
from replication.failback.quote import Quote
from replication.models import Pairing, ReplicatedMachine
from replication.peers.client import PeerClient
from replication.peers.connection import speaking_with

_ANSWER_SECONDS = 25.0
_CONNECT_SECONDS = 4.0
_WRONG_CODE_SECONDS = 300


@dataclass
class Target:
    """What the source core says of a rescue machine."""

    target_id: str = ""
    description: MachineDescription = field(default_factory=MachineDescription)
    trouble_code: str = ""
    trouble_text: str = ""


@dataclass
class DraftMachine:
    """One machine in the dialog."""

    replicated: ReplicatedMachine
    form: FailbackMachineForm
    is_chosen: bool
    point: RecoveryPoint | None = None
    quote: Quote | None = None
    target: Target | None = None
    plan: DiskMapping | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.replicated.machine.name

    @property
    def key(self) -> str:
        return str(self.replicated.machine_id)


@dataclass
class FailbackDraft(Draft[DraftMachine]):
    """A failback as it would start now."""

    source_trouble_text: str = ""
    needs_new_source: bool = False

    @property
    def quote(self) -> Quote | None:
        """All chosen machines together; none as long as one of them cannot be judged."""
        quotes = [machine.quote for machine in self.chosen]
        known = [quote for quote in quotes if quote is not None]
        return failback_quote.add_quotes(known) if known and len(known) == len(quotes) else None

    @property
    def knows_disks(self) -> bool:
        """Whether it is known for every chosen machine which disks are overwritten."""
        return all(machine.plan is not None for machine in self.chosen)


def draft_failback(
    pairing: Pairing,
    now: datetime.datetime,
    sent: Mapping[str, Any] | None = None,
    *,
    only: ReplicatedMachine | None = None,
) -> FailbackDraft:
    """Return what a failback of the machines that run here would be, with quote and findings."""
    rows, left_out = find_candidates(pairing, MachineKind.FAILED_OVER, only)
    machines = [_draft_machine(row, sent) for row in rows]
    draft = FailbackDraft(
        pairing=pairing,
        form=FailbackForm(sent),
        machines=machines,
        left_out=left_out,
        nothing_text=f"No machine of {pairing.peer_name} runs here.",
    )
    source = _Source(pairing)
    source.ask(machines)
    draft.source_trouble_text = source.trouble_text
    draft.needs_new_source = source.is_another
    busy = _open_jobs(machines)
    addresses = Counter(
        (machine.form["host"].value(), str(machine.form["port"].value()))
        for machine in draft.chosen
    )
    for machine in machines:
        _judge(machine, source, busy, addresses, now)
    return draft


class _Source:
    """The source core as the draft could reach it."""

    def __init__(self, pairing: Pairing) -> None:
        self._pairing = pairing
        self.trouble_text = ""
        self.is_another = False
        # By machine, the points that it holds.
        self.held: dict[str, list[str]] = {}

    def ask(self, machines: list[DraftMachine]) -> None:
        """Ask what it holds of each machine, and what the rescue machines are."""
        name = self._pairing.peer_name
        try:
            with speaking_with(
                self._pairing,
                answer_timeout_seconds=_ANSWER_SECONDS,
                connect_timeout_seconds=_CONNECT_SECONDS,
            ) as client:
                for machine in machines:
                    self.held[machine.key] = client.point_ids(machine.key)
                    machine.target = _look(client, machine)
        except (PeerCertificateChanged, PeerRefusedSecret) as error:
            self.is_another = True
            self.trouble_text = (
                f"{name} is not the core that this one was paired with: {error.text} If it was "
                "set up anew, pair with it by Add Source Core, in place of the lost one."
            )
        except ReplicationError as error:
            self.trouble_text = f"{name} cannot be asked: {error.text}"


def _draft_machine(row: ReplicatedMachine, sent: Mapping[str, Any] | None) -> DraftMachine:
    prefix = str(row.machine_id)
    form = FailbackMachineForm(sent, prefix=prefix, initial={"is_chosen": True})
    is_chosen = True if sent is None else bool(sent.get(f"{prefix}-is_chosen"))
    return DraftMachine(row, form, is_chosen)


def _look(client: PeerClient, machine: DraftMachine) -> Target | None:
    """Have the source core look at the rescue machine, once all of it is typed.

    A wrong code is not tried again: the rescue agent takes only a few.
    """
    values = {name: str(machine.form[name].value() or "") for name in ("host", "port", "code")}
    host, port, code = (values[name].strip() for name in ("host", "port", "code"))
    if not machine.is_chosen or not host or not code or not port.isdigit():
        return None
    digest = hashlib.sha256(f"{host}|{port}|{code}".encode()).hexdigest()
    key = f"replication-wrong-rescue-code:{digest}"
    known_trouble = cache.get(key)
    if known_trouble:
        return Target(trouble_code=WrongPairingCode.code, trouble_text=str(known_trouble))
    try:
        found = client.look_at_target(host, int(port), code)
    except FailbackRefused as error:
        if error.code == WrongPairingCode.code:
            cache.set(key, error.text, _WRONG_CODE_SECONDS)
        return Target(trouble_code=error.code, trouble_text=error.text)
    try:
        description = MachineDescription.from_json(found["description"])
    except ProtocolBroken as error:
        return Target(trouble_code=error.code, trouble_text=str(error))
    return Target(str(found["target_id"]), description)


def _judge(
    machine: DraftMachine,
    source: _Source,
    busy: dict[uuid.UUID, Job],
    addresses: Counter[tuple[Any, str]],
    now: datetime.datetime,
) -> None:
    """Fill in point, quote and findings."""
    row = machine.replicated.machine
    machine.point = row.points.carried_on().usable().newest_first().first()
    held = source.held.get(machine.key, [])
    facts = quote_facts(row, held, now) if not source.trouble_text else None
    target = machine.target
    _plan_disks(machine)
    if facts is not None:
        overwritten = machine.plan.overwritten if machine.plan is not None else []
        machine.quote = failback_quote.make_quote(
            facts, [{"device": pair.target_device, "content": pair.content} for pair in overwritten]
        )
    job = busy.get(row.pk)
    machine.findings = policy.plan_failback(
        policy.FailbackFacts(
            name=row.name,
            kind=row.kind,
            kind_title=row.get_kind_display(),
            is_owned_here=row.is_owned_here,
            owner_core_name=row.owner_core_name,
            source_name=machine.replicated.pairing.peer_name,
            is_agent_online=row.connection_state == ConnectionState.ONLINE,
            agent_trouble=row.connection_error,
            open_job_text=_open_job_text(job) if job is not None else "",
            source_trouble_text=source.trouble_text,
            has_points=machine.point is not None,
            has_common_point=machine.quote is None or machine.quote.has_common_point,
            send_text=bytes_human(machine.quote.send_bytes) if machine.quote else "",
            target_trouble_code=target.trouble_code if target else "",
            target_trouble_text=target.trouble_text if target else "",
            is_target_named=target is not None,
            target_findings=_target_findings(machine, addresses),
        )
    )


def _plan_disks(machine: DraftMachine) -> None:
    if machine.point is None or machine.target is None or machine.target.trouble_text:
        return
    try:
        manifest = get_manifest(machine.replicated.machine_id, machine.point.pk)
    except (ProtectedMachinesError, OSError) as error:
        machine.target.trouble_text = f"The newest recovery point cannot be read: {error}."
        return
    machine.plan = map_disks(manifest, machine.target.description)


def _target_findings(machine: DraftMachine, addresses: Counter[tuple[Any, str]]) -> list[Finding]:
    findings = []
    if machine.plan is not None:
        findings = list(machine.plan.findings)
    address = (machine.form["host"].value(), str(machine.form["port"].value()))
    if machine.is_chosen and machine.target is not None and addresses[address] > 1:
        findings.append(
            Finding.error("FAILBACK-TARGET-TWICE", "Two machines cannot go onto the same one.")
        )
    return findings


def _open_jobs(machines: list[DraftMachine]) -> dict[uuid.UUID, Job]:
    # A snapshot is waited for. A failback is in the way before it has become exclusive, too.
    found = Job.objects.filter(
        Q(is_exclusive=True) | Q(kind="failback"),
        subject_id__in=[machine.replicated.machine_id for machine in machines],
        state__in=OPEN,
    ).exclude(kind="snapshot")
    return {job.subject_id: job for job in found}


def _open_job_text(job: Job) -> str:
    return (
        f"{job.title} of {job.subject_name} is under way, asked for by "
        f"{job.requested_by_name}. Wait for its end."
    )
