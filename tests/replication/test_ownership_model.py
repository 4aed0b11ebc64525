"""Histories of cores that are lost, cut off and restored, and of people who settle wrongly.

Ten seconds of heartbeats after each event, exactly one core protects the machine, or a page of some
core says in red that something is wrong.

`OWNERSHIP_HISTORIES` says how many are lived through; without it they are the same every time.
"""

import logging
import os
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.db import connection
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from pytest_django import DjangoDbBlocker

from protected_machines.choices import MachineKind
from tests.places.modelled_cores import SOURCE, ModelledWorld, Sent

# The cores of the model have SQLite, whatever the other tests run on.
DEFAULT = 1000 if connection.vendor == "sqlite" else 50
HISTORIES = int(os.environ.get("OWNERSHIP_HISTORIES", DEFAULT))
STEPS = 12
SETTLEMENTS = 6

NUMBERS = st.integers(min_value=0, max_value=11)


class Histories(RuleBasedStateMachine):
    """One history of one machine. Each rule is something that happens."""

    world: ModelledWorld

    def __init__(self) -> None:
        super().__init__()
        self.names = [SOURCE, *self.world.targets]
        # Every state of a core may be its backup, back to before replication was set up.
        self.backups = {name: [before] for name, before in self.world.begin().items()}
        self.in_flight: list[Sent] = []

    def teardown(self) -> None:
        self.pass_time()
        self.settle_everything()

    def settle_everything(self) -> None:
        """There is a way out: once all is mended, people who agree need few settlements.

        They agree that the machine runs at the source, where that can be chosen.
        """
        if not self.world.troubled():
            return
        self.world.cut.clear()
        for core in self.world.cores.values():
            core.is_up = True
        for _ in range(SETTLEMENTS):
            # What one target core says, the source core tells the other ten seconds later.
            self.world.call_all()
            self.world.call_all()
            troubled = self.world.troubled()
            if not troubled:
                break
            for name in troubled:
                self.world.settle(name, 0 if name == SOURCE else -1)
        acting = self.world.acting_cores()
        kinds = {self.world.kind_at(name) for name in self.world.targets}
        is_under_way = bool(kinds & {MachineKind.PENDING_FAILOVER, MachineKind.FAILED_BACK})
        assert not self.world.troubled(), self.world.describe()
        assert len(acting) == 1 or is_under_way, f"{acting} act.\n{self.world.describe()}"

    def remember(self, name: str) -> None:
        self.backups[name].append(self.world.cores[name].save())

    def name(self, number: int) -> str:
        return self.names[number % len(self.names)]

    def ends(self, number: int, from_source: bool) -> tuple[str, str]:
        target = self.target(number)
        return (SOURCE, target) if from_source else (target, SOURCE)

    def target(self, number: int) -> str:
        return self.world.targets[number % len(self.world.targets)]

    @rule(at=NUMBERS, from_source=st.booleans(), is_lost=st.booleans())
    def heartbeat(self, at: int, from_source: bool, is_lost: bool) -> None:
        self.remember(SOURCE)
        caller, callee = self.ends(at, from_source)
        self.world.call(caller, callee, is_answer_lost=is_lost)

    @rule()
    def pass_time(self) -> None:
        """Ten seconds later, one core protects the machine, or a page says that it is not so."""
        if not any(core.is_up for core in self.world.cores.values()):
            return
        self.world.call_all()
        acting, warnings = self.world.acting_cores(), self.world.warnings()
        assert len(acting) == 1 or warnings, f"{acting} act.\n{self.world.describe()}"

    @rule(at=NUMBERS, from_source=st.booleans())
    def send(self, at: int, from_source: bool) -> None:
        sender, receiver = self.ends(at, from_source)
        if self.world.cores[sender].is_up:
            self.in_flight.append(self.world.status(sender, receiver))

    @rule(number=NUMBERS, is_kept=st.booleans())
    def deliver(self, number: int, is_kept: bool) -> None:
        """A message arrives late, or once more."""
        if not self.in_flight:
            return
        number %= len(self.in_flight)
        sent = self.in_flight[number] if is_kept else self.in_flight.pop(number)
        if self.world.cores[sent.receiver].is_up:
            self.world.deliver(sent)

    @rule(at=NUMBERS)
    def cut_or_mend(self, at: int) -> None:
        self.world.cut ^= {self.target(at)}

    @rule(name=NUMBERS)
    def lose_or_bring_back(self, name: int) -> None:
        core = self.world.cores[self.name(name)]
        core.is_up = not core.is_up

    @rule(name=NUMBERS, back=st.integers(min_value=1, max_value=STEPS + 2))
    def restore(self, name: int, back: int) -> None:
        """A core is put back to one of its earlier states; the last few are likelier."""
        past = self.backups[self.name(name)]
        self.world.cores[self.name(name)].restore(past[-min(back, len(past))])

    @rule(name=NUMBERS, hours=st.integers(min_value=-48, max_value=48))
    def step_clock(self, name: int, hours: int) -> None:
        self.world.cores[self.name(name)].clock = timedelta(hours=hours)

    @rule(name=NUMBERS)
    def snapshot(self, name: int) -> None:
        if self.is_able(self.name(name)):
            self.world.snapshot(self.name(name))

    @rule(at=NUMBERS)
    def replicate(self, at: int) -> None:
        self.world.introduce(self.target(at))

    @rule(at=NUMBERS, number=NUMBERS)
    def act(self, at: int, number: int) -> None:
        """A job runs from where the machine is now: some steps, then it goes on or is lost."""
        name = self.target(at)
        if not self.is_able(name):
            return
        self.remember(name)
        acts = ACTS.get(MachineKind(self.world.kind_at(name)), [])
        if acts:
            acts[number % len(acts)](self.world, name)

    @rule(name=NUMBERS, number=NUMBERS)
    def settle(self, name: int, number: int) -> None:
        if self.is_able(self.name(name)):
            self.remember(self.name(name))
            self.world.settle(self.name(name), number)

    @rule(name=NUMBERS)
    def claim(self, name: int) -> None:
        if self.is_able(self.name(name)):
            self.world.claim(self.name(name))

    def is_able(self, name: str) -> bool:
        return self.world.cores[name].is_up and self.world.knows(name)


def fail_over(world: ModelledWorld, target: str) -> None:
    world.take_over(target)
    world.protect(target)


def hand_back(world: ModelledWorld, target: str) -> None:
    if world.introduce_to_source(target):
        world.hand_over(target)


def fail_back(world: ModelledWorld, target: str) -> None:
    world.begin_failback(target)
    hand_back(world, target)
    world.accept_at_source(target)


def roll_back(world: ModelledWorld, target: str) -> None:
    world.take_back(target)
    world.protect(target)


World = ModelledWorld
ACTS: dict[MachineKind, list[Callable[[ModelledWorld, str], object]]] = {
    MachineKind.REPLICATED: [World.take_over, fail_over],
    MachineKind.PENDING_FAILOVER: [World.protect, World.undo_take_over],
    MachineKind.FAILED_OVER: [World.begin_failback, fail_back],
    MachineKind.PENDING_FAILBACK: [
        World.undo_begin_failback,
        hand_back,
        World.undo_take_back,
        World.protect,
    ],
    MachineKind.FAILED_BACK: [
        World.accept_at_source,
        World.undo_hand_over,
        World.commit,
        World.take_back,
        roll_back,
    ],
}


@pytest.fixture
def world(django_db_blocker: DjangoDbBlocker, request: pytest.FixtureRequest) -> Iterator[None]:
    # A history logs hundreds of lines, and tells more by its rules when it fails.
    logging.disable()
    with django_db_blocker.unblock():
        Histories.world = ModelledWorld(*request.param)
        yield
        Histories.world.close()
    logging.disable(logging.NOTSET)


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize(
    "world", [("DR site",), ("DR site", "Cloud")], ids=["two-cores", "three-cores"], indirect=True
)
@pytest.mark.usefixtures("world")
def test_no_two_cores_act_and_none_is_left_alone_unseen() -> None:
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=HISTORIES // 2,
            stateful_step_count=STEPS,
            derandomize="OWNERSHIP_HISTORIES" not in os.environ,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
