"""Check a failback order: ask the source core and its rescue machines, quote, and judge.

To survey a rescue machine, the source core pairs with it; nothing is written to its disks.
"""

import datetime
import hashlib
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from django.core.cache import cache
from django.db.models import Q

from agent.client.description import MachineDescription
from agent.errors import WrongPairingCode
from console.findings import Finding
from console.jobs.choices import OPEN
from console.jobs.models import Job
from console.wording import bytes_human
from protected_machines.choices import ConnectionState
from protected_machines.errors import ProtectedMachinesError
from protected_machines.models import RecoveryPoint
from protected_machines.ownership import trouble_text
from protected_machines.points.proofs import get_manifest
from protected_machines.restores.mapping import DiskMapping, map_disks
from replication.drafts import open_job_text, refusal_of
from replication.errors import (
    FailbackRefused,
    PeerCertificateChanged,
    PeerFaulty,
    PeerRefusedSecret,
    ReplicationError,
)
from replication.failback import policy
from replication.failback.facts import quote_facts
from replication.failback.order import FailbackOrder, MachineOrder, RescueAddress
from replication.failback.quote import Quote, add_quotes, make_quote
from replication.models import Pairing, ReplicatedMachine
from replication.peers.client import PeerClient
from replication.peers.connection import speaking_with

_ANSWER_SECONDS = 25.0
_CONNECT_SECONDS = 4.0
_WRONG_CODE_SECONDS = 300


@dataclass
class RescueMachine:
    """What the source core says about a rescue machine, and the ID by which it knows it."""

    rescue_id: str = ""
    description: MachineDescription = field(default_factory=MachineDescription)
    trouble_code: str = ""
    trouble_text: str = ""


@dataclass
class CheckedMachine:
    """One machine of an order, its quote, and what was found about it, errors first."""

    order: MachineOrder
    replicated: ReplicatedMachine
    point: RecoveryPoint | None = None
    quote: Quote | None = None
    rescue: RescueMachine | None = None
    mapping: DiskMapping | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.replicated.machine.name

    @property
    def key(self) -> str:
        return str(self.replicated.machine_id)


@dataclass
class FailbackCheck:
    """An order, its quote, and everything that was found about it.

    others: machines that were checked too, though they are not part of the order.
    needs_new_source: a different core answers at the address of the source core.
    """

    order: FailbackOrder
    pairing: Pairing
    machines: list[CheckedMachine]
    others: list[CheckedMachine]
    source_trouble_text: str
    needs_new_source: bool

    @property
    def refusal(self) -> str:
        """Why the failback cannot start, in one sentence; empty if it can."""
        return policy.refuse_days(self.order.commit_days) or refusal_of(self.machines)

    @property
    def quote(self) -> Quote | None:
        """The quote for all machines together; none while one of them cannot be quoted."""
        quotes = [machine.quote for machine in self.machines]
        known = [quote for quote in quotes if quote is not None]
        return add_quotes(known) if known and len(known) == len(quotes) else None

    @property
    def knows_disks(self) -> bool:
        """Whether it is known, for every machine, which disks will be overwritten."""
        return all(machine.mapping is not None for machine in self.machines)


def check_failback(
    order: FailbackOrder,
    now: datetime.datetime,
    *,
    rows: Iterable[ReplicatedMachine] | None = None,
    others: Sequence[MachineOrder] = (),
) -> FailbackCheck:
    """Return the order with its quote and everything that was found about it. Writes nothing.

    rows: the machines' rows, if they have already been read.
    others: machines to check too, though they are not part of the order.

    Raises:
        FailbackRefused: there is no such source core, or it has no such machine.
    """
    pairing = Pairing.objects.filter(pk=order.pairing_id).first()
    if pairing is None or pairing.is_outgoing:
        raise FailbackRefused(f"No source core has the pairing {order.pairing_id} with this one.")
    known = {row.machine_id: row for row in (rows if rows is not None else _rows(pairing, order))}
    machines = [CheckedMachine(one, _row(known, one, pairing)) for one in order.machines]
    beside = [CheckedMachine(one, _row(known, one, pairing)) for one in others]
    source = _Source(pairing)
    source.ask([*machines, *beside])
    busy = _open_jobs(known)
    addresses = Counter((one.rescue.host, one.rescue.port) for one in order.machines if one.rescue)
    for machine in [*machines, *beside]:
        _judge(machine, source, busy, addresses, now)
    return FailbackCheck(
        order=order,
        pairing=pairing,
        machines=machines,
        others=beside,
        source_trouble_text=source.trouble_text,
        needs_new_source=source.is_another,
    )


def _rows(pairing: Pairing, order: FailbackOrder) -> Iterable[ReplicatedMachine]:
    ids = [one.machine_id for one in order.machines]
    return pairing.machines.select_related("machine", "pairing").filter(machine_id__in=ids)


def _row(
    known: dict[uuid.UUID, ReplicatedMachine], order: MachineOrder, pairing: Pairing
) -> ReplicatedMachine:
    if order.machine_id not in known:
        raise FailbackRefused(
            f"{pairing.peer_name} shares no machine {order.machine_id} with this core."
        )
    return known[order.machine_id]


class _Source:
    """What the source core answered, or why it did not."""

    def __init__(self, pairing: Pairing) -> None:
        self._pairing = pairing
        self.trouble_text = ""
        self.is_another = False
        # The points that it holds, by machine.
        self.held: dict[uuid.UUID, frozenset[uuid.UUID]] = {}

    def ask(self, machines: list[CheckedMachine]) -> None:
        """Ask which points of each machine it holds, and have it survey the rescue machines."""
        name = self._pairing.peer_name
        try:
            with speaking_with(
                self._pairing,
                answer_timeout_seconds=_ANSWER_SECONDS,
                connect_timeout_seconds=_CONNECT_SECONDS,
            ) as client:
                for machine in machines:
                    machine_id = machine.order.machine_id
                    self.held[machine_id] = frozenset(client.point_ids(machine_id))
                    if machine.order.rescue is not None:
                        machine.rescue = _survey_rescue(client, machine.order.rescue)
        except (PeerCertificateChanged, PeerRefusedSecret) as error:
            self.is_another = True
            self.trouble_text = (
                f"{name} is not the core that this core was paired with: {error.text} If "
                "it was reinstalled, choose Add Source Core to pair with it in place of "
                "the lost one."
            )
        except ReplicationError as error:
            self.trouble_text = f"{name} cannot be reached: {error.text}"


def _survey_rescue(client: PeerClient, address: RescueAddress) -> RescueMachine:
    """Have the source core pair with the rescue machine and describe its disks.

    A code known to be wrong is not sent again: the rescue agent accepts only a few attempts.
    """
    typed = f"{address.host}|{address.port}|{address.code}"
    key = f"replication-wrong-rescue-code:{hashlib.sha256(typed.encode()).hexdigest()}"
    known_trouble = cache.get(key)
    if known_trouble:
        return RescueMachine(trouble_code=WrongPairingCode.code, trouble_text=str(known_trouble))
    try:
        found = client.survey_rescue_machine(address.host, address.port, address.code)
    except (FailbackRefused, PeerFaulty) as error:
        if error.code == WrongPairingCode.code:
            cache.set(key, error.text, _WRONG_CODE_SECONDS)
        return RescueMachine(trouble_code=error.code, trouble_text=error.text)
    return RescueMachine(rescue_id=str(found.target_id), description=found.description)


def _judge(
    machine: CheckedMachine,
    source: _Source,
    busy: dict[uuid.UUID, Job],
    addresses: Counter[tuple[str, int]],
    now: datetime.datetime,
) -> None:
    """Fill in the point, the mapping of disks, the quote and the findings."""
    row = machine.replicated.machine
    machine.point = row.points.carried_on().usable().newest_first().first()
    _map_disks(machine)
    if not source.trouble_text:
        facts = quote_facts(row, source.held.get(row.pk, frozenset()), now)
        overwritten = machine.mapping.overwritten if machine.mapping is not None else []
        if facts is not None:
            machine.quote = make_quote(
                facts,
                [{"device": pair.target_device, "content": pair.content} for pair in overwritten],
            )
    job = busy.get(row.pk)
    rescue = machine.rescue
    machine.findings = policy.check_machine(
        policy.FailbackFacts(
            name=row.name,
            kind=row.kind,
            kind_title=row.get_kind_display(),
            is_owned_here=row.is_owned_here,
            owner_core_name=row.owner_core_name,
            source_name=machine.replicated.pairing.peer_name,
            is_agent_online=row.connection_state == ConnectionState.ONLINE,
            agent_trouble=row.connection_error,
            owner_trouble_text=trouble_text(row),
            open_job_text=open_job_text(job) if job is not None else "",
            source_trouble_text=source.trouble_text,
            has_points=machine.point is not None,
            has_common_point=machine.quote is None or machine.quote.has_common_point,
            send_text=bytes_human(machine.quote.send_bytes) if machine.quote else "",
            rescue_trouble_code=rescue.trouble_code if rescue else "",
            rescue_trouble_text=rescue.trouble_text if rescue else "",
            is_rescue_named=rescue is not None,
            rescue_findings=_rescue_findings(machine, addresses),
        )
    )


def _map_disks(machine: CheckedMachine) -> None:
    if machine.point is None or machine.rescue is None or machine.rescue.trouble_text:
        return
    try:
        manifest = get_manifest(machine.replicated.machine_id, machine.point.pk)
    except (ProtectedMachinesError, OSError) as error:
        machine.rescue.trouble_text = f"The newest recovery point cannot be read: {error}."
        return
    machine.mapping = map_disks(manifest, machine.rescue.description)


def _rescue_findings(machine: CheckedMachine, addresses: Counter[tuple[str, int]]) -> list[Finding]:
    findings = list(machine.mapping.findings) if machine.mapping is not None else []
    address = machine.order.rescue
    if address is not None and addresses[address.host, address.port] > 1:
        text = "Two machines cannot be restored onto the same rescue machine."
        findings.append(Finding.error("FAILBACK-TARGET-TWICE", text))
    return findings


def _open_jobs(machine_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Job]:
    # A snapshot is waited for. A failback blocks even before it has become exclusive.
    found = Job.objects.filter(
        Q(is_exclusive=True) | Q(kind="failback"),
        subject_id__in=list(machine_ids),
        state__in=OPEN,
    ).exclude(kind="snapshot")
    return {job.subject_id: job for job in found}
