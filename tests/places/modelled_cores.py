"""Several cores in one process, each with an identity and an in-memory database of its own.

The rows, the policy and the messages are the product's own; what is left out is all that takes
time: sockets, agents, vSphere, jobs. A core is a few hundred kilobytes of SQLite that can be copied
and put back, so it can be restored to any moment of its past, and thousands of histories be lived
through in a minute.
"""

import hashlib
import itertools
import tempfile
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

from django.apps import apps
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import ConnectionHandler
from django.utils import timezone

from agent.client import MachineDescription
from console.identity import this_core
from console.jobs.workflow import StepFailed
from protected_machines import ownership, settling
from protected_machines.agents.connection import AnsweringAgent, protect_here
from protected_machines.choices import MachineKind
from protected_machines.claims import OwnershipClaim, Speaker
from protected_machines.errors import NotTheOwner, ProtectedMachinesError
from protected_machines.models import Machine, VCenter
from protected_machines.navigation import state_of
from protected_machines.ownership import (
    act_refusal,
    check_owner,
    check_settled,
    ownership_trouble,
)
from protected_machines.settlements import possible_settlements
from replication import heartbeat
from replication.choices import Direction
from replication.errors import OwnedElsewhere, ReplicationError
from replication.failback import end_workflow, source_side
from replication.failback import workflow as failback_workflow
from replication.failover import workflow as failover_workflow
from replication.models import (
    Failback,
    FailbackMachine,
    FellowCore,
    Pairing,
    ReplicatedMachine,
)
from replication.pages.states import core_state
from replication.peers import fellows, wire
from replication.peers.claims import hear_from, speaker_on
from replication.transfer import receiving
from tests.factories import NOON, make_machine, make_vcenter

SOURCE = "Headquarters"
_numbers = itertools.count(1)


def _in_memory() -> BaseDatabaseWrapper:
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    return ConnectionHandler({"default": database}).create_connection("default")


def _empty_database() -> bytes:
    """The tables of every model, without rows; made once."""
    wrapper = _in_memory()
    with wrapper.cursor() as cursor:
        # Most tables stay empty: a backup is an eighth of what it would be, and there are many.
        cursor.execute("PRAGMA page_size = 512")
    with wrapper.schema_editor() as editor:
        for model in apps.get_models():
            editor.create_model(model)
    data: bytes = wrapper.connection.serialize()
    wrapper.close()
    return data


class ModelledCore:
    """One core: who it is, what it knows, and whether it runs."""

    def __init__(self, name: str, home: Path, empty: bytes) -> None:
        self.name = name
        self.home = home / name.replace(" ", "-")
        self.home.mkdir()
        self.is_up = True
        self.clock = timedelta()
        self._wrapper = _in_memory()
        self._wrapper.connect()
        self.restore(empty)
        with self.acting():
            self.id = this_core().id

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Have this process be the core."""
        before, clock = connections["default"], timezone.now
        home, name = settings.UNDERSTUDY_HOME, settings.UNDERSTUDY_CORE_NAME
        connections["default"] = self._wrapper
        settings.UNDERSTUDY_HOME, settings.UNDERSTUDY_CORE_NAME = self.home, self.name
        timezone.now = lambda: datetime.now(UTC) + self.clock
        try:
            yield
        finally:
            connections["default"], timezone.now = before, clock
            settings.UNDERSTUDY_HOME, settings.UNDERSTUDY_CORE_NAME = home, name

    def save(self) -> bytes:
        """Return a backup of the database."""
        data: bytes = self._wrapper.connection.serialize()
        return data

    def digest(self) -> bytes:
        """Return what differs whenever anything in the database does."""
        return hashlib.blake2b(self.save(), digest_size=16).digest()

    def restore(self, backup: bytes) -> None:
        """Put a backup of the database back."""
        self._wrapper.connection.deserialize(backup)

    def close(self) -> None:
        # Django keeps a database in memory open.
        self._wrapper.connection.close()


Message = dict[str, Any]


@dataclass(frozen=True)
class Sent:
    """A status on its way, between the source and that target."""

    receiver: str
    target: str
    message: Message


class ModelledWorld:
    """A source core, its target cores, the links between them, and one machine."""

    def __init__(self, *targets: str) -> None:
        self.targets = targets
        self._folder = tempfile.TemporaryDirectory(prefix="modelled-cores-")
        empty, home = _empty_database(), Path(self._folder.name)
        self.cores = {name: ModelledCore(name, home, empty) for name in (SOURCE, *targets)}
        self.machine_id = uuid4()
        self.pairing_ids = {name: uuid4() for name in self.targets}
        self.cut: set[str] = set()
        self._said: dict[tuple[Hashable, ...], Message] = {}
        self._idle: dict[tuple[Hashable, ...], list[UUID]] = {}
        self._questions = list(ownership._peer_questions)
        ownership._peer_questions[:] = [self._ask_peers]
        self._ask_all = fellows._ask_all
        fellows._ask_all = self._ask_fellows
        self._set_up()
        self._before = self._save()
        for name in targets:
            self.introduce(name)
        self._begun = self._save()

    def begin(self) -> dict[str, bytes]:
        """Begin a history with the machine replicated; return what was before it was."""
        self.cut.clear()
        for name, core in self.cores.items():
            core.restore(self._begun[name])
            core.is_up, core.clock = True, timedelta()
        return self._before

    def _save(self) -> dict[str, bytes]:
        return {name: core.save() for name, core in self.cores.items()}

    def _set_up(self) -> None:
        """The source protects the machine, and is paired with its target cores."""
        with self.at(SOURCE):
            make_machine(pk=self.machine_id, name="db-01")
        for name in self.targets:
            self._pair(SOURCE, name, Direction.OUTGOING)
            self._pair(name, SOURCE, Direction.INCOMING)
            with self.at(name):
                make_vcenter()

    def close(self) -> None:
        ownership._peer_questions[:] = self._questions
        fellows._ask_all = self._ask_all
        for core in self.cores.values():
            core.close()
        self._folder.cleanup()

    def _pair(self, here: str, there: str, direction: Direction) -> None:
        target = there if here == SOURCE else here
        with self.at(there):
            certificate_pem = this_core().certificate_pem
        with self.at(here):
            Pairing.objects.create(
                pk=self.pairing_ids[target],
                direction=direction,
                peer_core_id=self.cores[there].id,
                peer_name=there,
                host="127.0.0.1",
                port=1,
                peer_certificate_pem=certificate_pem,
                # No call goes out: the secret cannot be read.
                sealed_secret="unreadable",
                last_seen_at=NOON,
                connection_state="online",
            )

    @contextmanager
    def at(self, name: str) -> Iterator[None]:
        with self.cores[name].acting():
            yield

    def machine(self) -> Machine:
        """The row of the core that acts now."""
        return Machine.objects.get(pk=self.machine_id)

    def known_machine(self) -> Machine | None:
        """The row of the core that acts now, if it has one."""
        return Machine.objects.filter(pk=self.machine_id).first()

    def knows(self, name: str) -> bool:
        with self.at(name):
            return Machine.objects.filter(pk=self.machine_id).exists()

    def kind_at(self, name: str) -> str:
        with self.at(name):
            kinds = Machine.objects.filter(pk=self.machine_id).values_list("kind", flat=True)
            return kinds.first() or ""

    def is_linked(self, target: str) -> bool:
        return target not in self.cut and all(self.cores[name].is_up for name in (SOURCE, target))

    # Messages between cores, as `heartbeat.refresh_core` and the core interface exchange them.

    def status(self, sender: str, receiver: str) -> Sent:
        target = receiver if sender == SOURCE else sender
        return Sent(receiver, target, self._say(sender, self._pairing(sender, target)))

    def deliver(self, sent: Sent) -> None:
        self._hear(sent.receiver, self._pairing(sent.receiver, sent.target), sent.message)

    def _pairing(self, name: str, target: str) -> Pairing:
        with self.at(name):
            return Pairing.objects.get(pk=self.pairing_ids[target])

    def _say(self, name: str, pairing: Pairing, unshared_ids: Sequence[UUID] = ()) -> Message:
        """Most heartbeats say once more what was said of the same rows; that is kept."""
        key = (name, pairing.pk, tuple(unshared_ids), self.cores[name].digest())
        if key not in self._said:
            with self.at(name):
                self._said[key] = heartbeat.status_of(pairing, unshared_ids).to_json()
        return self._said[key]

    def _hear(self, name: str, pairing: Pairing, message: Message) -> list[UUID]:
        """Most heartbeats change nothing; that is known once it was tried with the same rows."""
        core = self.cores[name]
        key = (name, pairing.pk, core.clock, repr(message), core.digest())
        if key in self._idle:
            return self._idle[key]
        with self.at(name):
            pairing.note_seen(timezone.now())
            heard = heartbeat.record_peer_status(pairing, wire.PeerStatus.from_json(message))
        if core.digest() == key[-1]:
            self._idle[key] = heard
        return heard

    def call(self, caller: str, callee: str, *, is_answer_lost: bool = False) -> None:
        """A heartbeat; one that fails is noted where it was tried."""
        if not self.cores[caller].is_up:
            return
        target = callee if caller == SOURCE else caller
        calling = self._pairing(caller, target)
        if not self.is_linked(target):
            with self.at(caller):
                calling.note_unreachable("It does not answer.", timezone.now())
            return
        called = self._pairing(callee, target)
        unshared_ids = self._hear(callee, called, self._say(caller, calling))
        answer = self._say(callee, called, unshared_ids)
        if not is_answer_lost:
            self._hear(caller, calling, answer)

    def call_all(self) -> None:
        for target in self.targets:
            self.call(SOURCE, target)
            self.call(target, SOURCE)
        for target in self.targets:
            if self.cores[target].is_up:
                with self.at(target):
                    FellowCore.objects.update(asked_at=None)
                    fellows.refresh_fellows(Pairing.objects.get(pk=self.pairing_ids[target]))

    def _ask_fellows(self, asked: Sequence[FellowCore]) -> list[wire.FellowAnswer | str]:
        """What targets ask each other, without a socket."""
        asker = this_core()
        answers: list[wire.FellowAnswer | str] = []
        for fellow in asked:
            answer: wire.FellowAnswer | None = None
            if self.cores[fellow.name].is_up and not self.cut & {fellow.name, asker.name}:
                with self.at(fellow.name):
                    known = FellowCore.objects.filter(core_id=asker.id).first()
                    answer = fellows.moved_machines(known) if known else None
            answers.append(answer or "It does not answer.")
        return answers

    def _ask_peers(self, machine: Machine) -> list[tuple[OwnershipClaim, Speaker]]:
        """What `ask_peers_who_owns` asks, without a socket."""
        heard = []
        asker = this_core().name
        for row in ReplicatedMachine.objects.filter(machine=machine).select_related("pairing"):
            peer = row.pairing.peer_name
            if not self.is_linked(peer if asker == SOURCE else asker):
                continue
            with self.at(peer):
                known = Machine.objects.filter(
                    pk=machine.pk, replications__pairing=row.pairing_id
                ).first()
                claim = wire.Ownership.of(known).claim if known else None
            if claim is not None:
                heard.append((claim, speaker_on(row.pairing, shares_machine=True)))
        return heard

    # Acts, by the very steps of the workflows.

    def snapshot(self, name: str) -> None:
        with self.at(name), suppress(NotTheOwner):
            check_owner(self.machine(), ask=True)

    def introduce(self, target: str) -> None:
        """The first steps of the source's Replicate job."""
        if not self.is_linked(target):
            return
        pairing_id = self.pairing_ids[target]
        with self.at(SOURCE):
            machine, pairing = self.machine(), Pairing.objects.get(pk=pairing_id)
            try:
                check_owner(machine)
            except NotTheOwner:
                return
            replicated, _ = ReplicatedMachine.objects.get_or_create(
                pairing=pairing, machine=machine
            )
            sent = wire.SentMachine.of(replicated)
        claim = self._put_machine(target, pairing_id, sent, receiving.accept_machine)
        with self.at(SOURCE):
            hear_from(pairing, machine, claim)

    def _put_machine(
        self,
        receiver: str,
        pairing_id: UUID,
        sent: wire.SentMachine,
        accept: Callable[[Pairing, UUID, wire.SentMachine], Machine],
    ) -> OwnershipClaim:
        message = wire.SentMachine.from_json(sent.to_json())
        with self.at(receiver):
            pairing = Pairing.objects.get(pk=pairing_id)
            try:
                accepted = accept(pairing, self.machine_id, message)
            except OwnedElsewhere as error:
                return error.claim
            return wire.Ownership.of(accepted).claim

    def _context(self, target: str, entry: FailbackMachine | None = None) -> Any:
        params = SimpleNamespace(
            pairing_id=self.pairing_ids[target], entry_id=entry.pk if entry else uuid4()
        )
        return SimpleNamespace(
            subject_id=self.machine_id,
            params=params,
            outputs={},
            note=lambda text: None,
            check_cancel=lambda: None,
        )

    def step(self, target: str, action: Callable[[Any], object] | None) -> None:
        """Run a step, or an undo, at a target core; it may refuse."""
        assert action is not None
        with self.at(target), suppress(StepFailed, ProtectedMachinesError, ReplicationError):
            entry = FailbackMachine.objects.order_by("-failback__created_at").first()
            action(self._context(target, entry))

    def take_over(self, target: str) -> None:
        self.step(target, failover_workflow.take_ownership.action)

    def undo_take_over(self, target: str) -> None:
        self.step(target, failover_workflow.take_ownership.undo_action)

    def protect(self, target: str) -> None:
        """The last step of a failover or of a roll back: the agent answers."""

        def protect(context: Any) -> None:
            machine = self.machine()
            check_owner(machine)
            vcenter = VCenter.objects.get()
            agent = AnsweringAgent("10.9.0.1", 8006, MachineDescription())
            protect_here(
                machine.pk,
                agent,
                vcenter_id=vcenter.pk,
                vm_moid="vm-1",
                vm_name="db-01",
                vm_marker="marker",
            )

        self.step(target, protect)

    def begin_failback(self, target: str) -> None:
        with self.at(target):
            failback = Failback.objects.create(
                pairing_id=self.pairing_ids[target], request_id=uuid4()
            )
            FailbackMachine.objects.create(
                failback=failback,
                machine=self.machine(),
                rescue_id=uuid4(),
                rescue_host="10.8.0.1",
            )
        self.step(target, failback_workflow.begin_failback.action)

    def undo_begin_failback(self, target: str) -> None:
        self.step(target, failback_workflow.begin_failback.undo_action)

    def introduce_to_source(self, target: str) -> bool:
        """Tell the source core who owns the machine; return whether it agrees."""
        if not self.is_linked(target):
            return False
        pairing_id = self.pairing_ids[target]
        with self.at(target):
            rows = ReplicatedMachine.objects.select_related("machine", "pairing")
            row = rows.get(pairing_id=pairing_id, machine_id=self.machine_id)
            sent = wire.SentMachine.of(row)
        sent_here = wire.SentMachine.from_json({**sent.to_json(), "host": "10.8.0.1"})
        claim = self._put_machine(SOURCE, pairing_id, sent_here, source_side.accept_machine)
        return claim.owner_core_id == self.cores[target].id

    def hand_over(self, target: str) -> None:
        self.step(target, failback_workflow.hand_over.action)

    def undo_hand_over(self, target: str) -> None:
        self.step(target, failback_workflow.hand_over.undo_action)
        self._forget_the_call(target)

    def accept_at_source(self, target: str) -> None:
        if not self.is_linked(target):
            return
        with self.at(target):
            machine = self.machine()
        sent = wire.TakeOver(
            host=f"10.8.0.{next(_numbers) % 250}",
            port=8006,
            description=MachineDescription(),
            ownership_epoch=machine.ownership_epoch,
            owned_since=machine.owned_since,
        )
        with self.at(SOURCE), suppress(ReplicationError):
            pairing = Pairing.objects.get(pk=self.pairing_ids[target])
            # Any certificate will do here.
            Machine.objects.update(agent_certificate_pem=this_core().certificate_pem)
            source_side.take_over(pairing, self.machine_id, sent)
        with self.at(SOURCE):
            Machine.objects.update(agent_certificate_pem="")

    def commit(self, target: str) -> None:
        """Commit a failback; its VM is off."""

        def commit(context: Any) -> None:
            machine = self.machine()
            check_settled(machine)
            if not machine.is_owned_here:
                end_workflow.become_replica.action(context)

        self.step(target, commit)

    def take_back(self, target: str) -> None:
        """Begin to roll a failback back."""
        self.step(target, end_workflow.take_ownership.action)

    def undo_take_back(self, target: str) -> None:
        self.step(target, end_workflow.take_ownership.undo_action)

    def _forget_the_call(self, target: str) -> None:
        """Calls of the steps themselves go nowhere; that is no trouble with the other core."""
        with self.at(target):
            Pairing.objects.update(connection_state="online", connection_error="")

    # People.

    def settle(self, name: str, number: int) -> None:
        """Someone chooses one of what the Settle Owner dialog offers."""
        with self.at(name):
            machine = self.machine()
            offered = possible_settlements(machine)
            if offered:
                agent = AnsweringAgent("10.7.0.1", 8006, MachineDescription())
                choice = offered[number % len(offered)].choice
                settling.settle(machine, choice, agent)

    def claim(self, name: str) -> None:
        """Someone runs `manage.py claim_machine`."""
        with self.at(name), suppress(settling.ClaimNotSettled):
            machine = self.machine()
            ownership.ask_peers(machine)
            settling.claim_here(machine, AnsweringAgent("10.7.0.1", 8006, MachineDescription()))

    # What pages show.

    def acting_cores(self) -> list[str]:
        """The cores that would take a recovery point of the machine now."""
        return [name for name in self._up() if self._acts(name)]

    def _acts(self, name: str) -> bool:
        with self.at(name):
            machine = self.known_machine()
            return machine is not None and not act_refusal(machine)

    def warnings(self) -> list[str]:
        """What some page says in red, or while a failover is in progress."""
        return [text for name in self._up() for text in self._warnings_of(name)]

    def _warnings_of(self, name: str) -> Iterator[str]:
        with self.at(name):
            for machine in Machine.objects.all():
                trouble, core_id = ownership_trouble(machine), this_core().id
                # Pages must not say it and then look as if all were well.
                assert (trouble is None) == (ownership.owner_notice() is None)
                if trouble is not None:
                    assert state_of(machine, core_id)[0] == "bad"
                    yield f"{name}: {trouble.label}"
                elif machine.kind == MachineKind.PENDING_FAILOVER:
                    yield f"{name}: {state_of(machine, core_id)[1]}"
            for pairing in Pairing.objects.all():
                state = core_state(pairing, timezone.now())
                if state.tone == "bad":
                    yield f"{name}: {pairing.peer_name} {state.text}"

    def _up(self) -> list[str]:
        return [name for name, core in self.cores.items() if core.is_up]

    def troubled(self) -> list[str]:
        return [name for name in self._up() if self._is_troubled(name)]

    def _is_troubled(self, name: str) -> bool:
        with self.at(name):
            machine = self.known_machine()
            return machine is not None and ownership_trouble(machine) is not None

    def describe(self) -> str:
        """Return all that the cores know, for a failed history."""
        lines = []
        for name in self.cores:
            with self.at(name):
                for row in Machine.objects.all():
                    claim = f" claim {row.claim_core_name}@{row.claim_epoch}" * row.is_disputed
                    owner = f"{row.owner_core_name}@{row.ownership_epoch}"
                    lines.append(f"{name}: {row.kind} of {owner}{claim}")
        return "\n".join(lines)
