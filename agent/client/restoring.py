"""The core's side of a restore: which disk goes where, and sending one disk's grains.

`AgentClient` has the calls; this module does their work once they are connected. The core inflates
nothing: it sends grains as the store holds them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.client.connection import checked_message, receive_message
from agent.client.description import MachineDescription
from agent.errors import ProtocolBroken, RestoreRefused
from agent.protocol import (
    MAX_CAPACITY_BYTES,
    MAX_RUN_BYTES,
    MAX_RUN_GRAINS,
    RESTORE_RUN,
    Channel,
    Frame,
    Message,
    get_flag,
    get_int,
    grain_count,
    run_payload,
)
from agent.rescue.disks import check_fits

Progress = Callable[[int, int], object]
CheckCancel = Callable[[], object]


class RestoreRun(Protocol):
    """Adjacent grains of a disk in the store, either all with data or all zero."""

    @property
    def first_grain(self) -> int:
        """The number of the first grain."""

    @property
    def compressed(self) -> Sequence[bytes | memoryview]:
        """Each grain in zlib format; empty in a run of zeros."""

    @property
    def zero_grains(self) -> int:
        """The number of grains in a run of zeros."""

    @property
    def data_bytes(self) -> int:
        """The run's share of the plan's `data_bytes`."""


class RestorePlan(Protocol):
    """The runs that give a disk the content of a point, such as a plan from the store."""

    @property
    def capacity_bytes(self) -> int:
        """The disk's size in the point."""

    @property
    def data_bytes(self) -> int:
        """The sum over all runs."""

    def left_bytes(self, from_grain: int) -> int:
        """Return the sum over the runs starting with that grain."""

    def read_runs(self, from_grain: int = 0) -> Iterator[RestoreRun]:
        """Yield the runs starting with that grain, ascending."""


@dataclass(frozen=True)
class RestoredDisk:
    """The progress of a disk of a rescue machine: everything before `next_grain` is on it."""

    next_grain: int
    is_done: bool


@dataclass(frozen=True)
class RestoreState:
    """What the rescue machine knows about a restore; `disks` by the machine's own numbers.

    After a restart it knows nothing, whatever its disks hold.
    """

    is_known: bool
    disks: dict[int, RestoredDisk]


def match_disks(capacities_bytes: Sequence[int], machine: MachineDescription) -> list[int]:
    """Return, for each disk of a point in order, the number of the disk that it is restored to.

    They are restored to the machine's disks in order. The machine is not called.

    capacities_bytes: the sizes of the point's disks.
    machine: the rescue machine.

    Raises:
        RestoreRefused: the machine has too few disks, or does not run the rescue medium.
        DiskTooSmall: a disk is smaller than the point's; says by how much.
    """
    if not machine.is_rescue:
        raise RestoreRefused(
            f"Restoring onto {machine.hostname or 'the machine'!r}: it does not run the "
            "rescue medium. Start it from the rescue medium, then try again."
        )
    disks = sorted(machine.disks, key=lambda disk: disk.number)
    if len(disks) < len(capacities_bytes):
        raise RestoreRefused(
            f"Restoring {len(capacities_bytes)} disks: the machine has {len(disks)}. "
            "Add disks, then start it from the rescue medium again."
        )
    for capacity_bytes, disk in zip(capacities_bytes, disks):
        check_fits(capacity_bytes, disk.capacity_bytes, disk.device)
    return [disk.number for disk in disks[: len(capacities_bytes)]]


class DiskSender:
    """Sends one disk over a new connection."""

    def __init__(
        self,
        channel: Channel,
        plan: RestorePlan,
        progress: Progress | None,
        check_cancel: CheckCancel | None,
    ) -> None:
        self._channel = channel
        self._plan = plan
        self._progress = progress
        self._check_cancel = check_cancel
        self._total_grains = grain_count(plan.capacity_bytes)
        self._written_grain = 0
        self._done_bytes = 0
        self._on_the_way: deque[tuple[int, int]] = deque()  # (grain after a run, its data bytes)

    def send(self, number: int, token: str, since_token: str | None) -> RestoredDisk:
        """Send what the disk lacks, and wait until all of it has been written."""
        self._channel.send_control(
            {
                "type": "restore_disk",
                "number": number,
                "capacity_bytes": self._plan.capacity_bytes,
                "token": token,
                "since_token": since_token,
            }
        )
        ready = receive_message(self._channel, "restore_ready")
        self._written_grain = get_int(ready, "next_grain", 0, self._total_grains)
        is_done = get_flag(ready, "is_done")
        left_bytes = 0 if is_done else self._plan.left_bytes(self._written_grain)
        self._done_bytes = self._plan.data_bytes - left_bytes
        self._report()
        if not is_done:
            self._send_runs()
            self._channel.send_control({"type": "finish_disk"})
            while not self._take(self._channel.receive()):
                pass
        return RestoredDisk(self._written_grain, is_done=True)

    def _send_runs(self) -> None:
        self._channel.on_arrival = self._take_arrived
        try:
            for run in self._plan.read_runs(self._written_grain):
                self._take_arrived()
                self._send_run(run)
        finally:
            self._channel.on_arrival = None

    def _send_run(self, run: RestoreRun) -> None:
        if run.zero_grains:
            self._channel.send_control(
                {"type": "zero_run", "first_grain": run.first_grain, "grains": run.zero_grains}
            )
            end_grain = run.first_grain + run.zero_grains
        else:
            for first_grain, grains in _frames(run):
                self._channel.send(RESTORE_RUN, *run_payload(first_grain, grains))
            end_grain = run.first_grain + len(run.compressed)
        self._on_the_way.append((end_grain, run.data_bytes))

    def _take_arrived(self) -> None:
        if self._check_cancel is not None:
            self._check_cancel()
        while True:
            frame = self._channel.find_waiting()
            if frame is None:
                return
            if self._take(frame):
                raise ProtocolBroken("The agent reports a disk as complete before it has been sent")

    def _take(self, frame: Frame) -> bool:
        """Take an answer; True if the disk is done."""
        message = checked_message(frame, "written", "disk_done")
        is_done: bool = message["type"] == "disk_done"
        lowest = self._total_grains if is_done else self._written_grain
        self._written_grain = get_int(message, "next_grain", lowest, self._total_grains)
        while self._on_the_way and (is_done or self._on_the_way[0][0] <= self._written_grain):
            self._done_bytes += self._on_the_way.popleft()[1]
        self._report()
        if self._check_cancel is not None:
            self._check_cancel()
        return is_done

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(self._done_bytes, self._plan.data_bytes)


def _frames(run: RestoreRun) -> Iterator[tuple[int, list[bytes | memoryview]]]:
    """Yield (first grain, grains) in pieces that fit into a frame."""
    first_grain = run.first_grain
    grains: list[bytes | memoryview] = []
    run_bytes = 0
    for grain in run.compressed:
        if len(grains) == MAX_RUN_GRAINS or (grains and run_bytes + len(grain) > MAX_RUN_BYTES):
            yield first_grain, grains
            first_grain += len(grains)
            grains, run_bytes = [], 0
        grains.append(grain)
        run_bytes += len(grain)
    if grains:
        yield first_grain, grains


def read_state(message: Message) -> RestoreState:
    """Return the state in a `restore_state` answer."""
    entries = message.get("disks")
    if not isinstance(entries, list):
        raise ProtocolBroken("The agent sent the state of a restore without its disks")
    disks = {}
    for entry in entries:
        if not isinstance(entry, dict):
            raise ProtocolBroken("A disk in the state of a restore is not an object")
        next_grain = get_int(entry, "next_grain", 0, grain_count(MAX_CAPACITY_BYTES))
        disks[get_int(entry, "number", 0, 65535)] = RestoredDisk(
            next_grain, get_flag(entry, "is_done")
        )
    return RestoreState(is_known=bool(disks), disks=disks)
