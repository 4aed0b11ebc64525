"""What the agent does on a rescue machine: it writes the machine's disks.

A core restores disks one after the other, or several at once with a connection for each. The
journal records the progress of each disk. After a connection breaks, the same core's next call
resumes. The heads of the disks are written just before the core restarts the machine. If the
machine loses power earlier, it cannot boot from its disks, whether half-written or outdated.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from agent.configuration import Configuration
from agent.duty import Answer
from agent.errors import (
    AgentBusy,
    AgentError,
    ProtocolBroken,
    RestoreRefused,
    RestoreUnknown,
)
from agent.protocol import (
    MAX_CAPACITY_BYTES,
    MAX_DISKS,
    RESTORE_RUN,
    Channel,
    Message,
    control_message,
    get_int,
    get_text,
    grain_count,
    split_run,
)
from agent.rescue.console import RescueConsole
from agent.rescue.disk_writer import DiskWriter, write_head
from agent.rescue.disks import (
    FileRescueMachine,
    LocalRescueMachine,
    RescueDisk,
    RescueMachine,
    check_fits,
)
from agent.rescue.journal import DiskRestore, RestoreJournal
from agent.state import AgentState, TrustedCore, now_text

log = logging.getLogger(__name__)

_TAKE_OVER_SECONDS = 30
_RESTART_DELAY_SECONDS = 1.0  # for the answer to leave
_TAIL_BYTES = 1024 * 1024
_MAX_TOKEN_CHARACTERS = 100


@dataclass(frozen=True)
class _Writing:
    """The core that is writing a disk."""

    fingerprint: str
    text: str
    channel: Channel


class RescueDuty:
    """Restores this machine's disks."""

    mode = "restore"

    def __init__(
        self, configuration: Configuration, state: AgentState, console: RescueConsole
    ) -> None:
        self._machine = _rescue_machine(configuration)
        self._journal = RestoreJournal(state)
        self._console = console
        self._writing: dict[int, _Writing] = {}
        self._changed = threading.Condition()
        self._is_restarting = False

    def start(self) -> None:
        """Do nothing: a restore needs no preparation."""

    def stop(self) -> None:
        """Do nothing: a disk that is being written stays incomplete."""

    def describe(self) -> Message:
        """Return the disks and what is on them."""
        return {
            "disks": [disk.description() for disk in self._machine.disks()],
            "initramfs_drivers": [],
            "snapshot_provider": "",
        }

    def answers(self) -> dict[str, Answer]:
        """Return the requests that only a rescue machine answers."""
        return {
            "restore_disk": self._restore_disk,
            "restore_state": self._restore_state,
            "finish_restore": self._finish_restore,
            "restart_from_disk": self._restart_from_disk,
        }

    def _restore_disk(self, channel: Channel, core: TrustedCore, message: Message) -> None:
        number = get_int(message, "number", 0, MAX_DISKS)
        wanted = _wanted(message)
        with self._only_writer(number, core, channel):
            disk = self._get_disk(number)
            check_fits(wanted.capacity_bytes, disk.capacity_bytes, str(disk.path))
            entry, is_resumed = self._begin(disk, wanted)
            if entry.is_done:
                _send_ready(channel, entry, is_resumed)
            else:
                self._write(channel, disk, entry, is_resumed)

    def _begin(self, disk: RescueDisk, wanted: DiskRestore) -> tuple[DiskRestore, bool]:
        """Find the grain to start with, and forget what the disk held before.

        Raises:
            RestoreUnknown: the disk does not hold what the difference builds on.
        """
        entry = self._journal.find(disk.key)
        if entry is not None and _continues(entry, wanted):
            return entry, True
        if wanted.since_token is not None:
            wanted = replace(wanted, head_hex=_get_older(disk, entry, wanted).head_hex)
        self._journal.save(disk.key, wanted)
        return wanted, False

    def _write(
        self, channel: Channel, disk: RescueDisk, entry: DiskRestore, is_resumed: bool
    ) -> None:
        started_at = time.monotonic()
        is_whole = entry.since_token is None

        def report(next_grain: int) -> None:
            self._journal.advance(disk.key, next_grain, writer.head)
            channel.send_control({"type": "written", "next_grain": next_grain})

        self._tell_begin(disk, entry, is_resumed)
        writer = DiskWriter(
            disk.path,
            entry.capacity_bytes,
            entry.next_grain,
            fills_gaps=is_whole,
            report=report,
            head=bytes.fromhex(entry.head_hex),
        )
        try:
            with writer:
                writer.zero_bytes(0, len(writer.head))
                if is_whole and not is_resumed:
                    _clear_tail(writer, disk, entry.capacity_bytes)
                _send_ready(channel, entry, is_resumed)
                _take_runs(channel, writer, entry.capacity_bytes)
        except AgentError as error:
            self._console.tell(f"{disk.path}: interrupted. {error}")
            raise
        finally:
            if writer.next_grain > entry.next_grain:
                self._journal.advance(disk.key, writer.next_grain, writer.head)
        total_grains = grain_count(entry.capacity_bytes)
        self._journal.advance(disk.key, total_grains, writer.head, is_done=True)
        channel.send_control({"type": "disk_done", "next_grain": total_grains})
        self._console.tell(f"{disk.path}: restored.")
        log.info(
            "disk restored number=%d token=%s since=%s received_bytes=%d seconds=%.1f",
            disk.number,
            entry.token,
            entry.since_token or "-",
            channel.received_bytes,
            time.monotonic() - started_at,
        )

    def _tell_begin(self, disk: RescueDisk, entry: DiskRestore, is_resumed: bool) -> None:
        what = "writing the difference" if entry.since_token else "overwriting the disk"
        percent = 100 * entry.next_grain // grain_count(entry.capacity_bytes)
        how = f"resuming at {percent} %" if is_resumed else "from the beginning"
        self._console.tell(f"{disk.path}: {what}, {how}.")

    def _restore_state(self, channel: Channel, _core: TrustedCore, message: Message) -> None:
        disks = self._disks_of(_token(message, "token"))
        entries = [
            {"number": disk.number, "next_grain": entry.next_grain, "is_done": entry.is_done}
            for disk, entry in disks
        ]
        channel.send_control({"type": "restore_state", "disks": entries})

    def _finish_restore(self, channel: Channel, _core: TrustedCore, message: Message) -> None:
        token = _token(message, "token")
        with self._no_writer("Finishing a restore"):
            disks = self._disks_of(token)
            if not disks:
                raise RestoreUnknown(
                    f"Finishing the restore of {token}: this machine has no record of it since it "
                    "was started. Restore the whole point."
                )
            undone = [str(disk.path) for disk, entry in disks if not entry.is_done]
            if undone:
                raise RestoreRefused(
                    f"Finishing the restore of {token}: {', '.join(undone)} is not complete"
                )
        channel.send_control({"type": "restore_finished"})

    def _restart_from_disk(self, channel: Channel, core: TrustedCore, _message: Message) -> None:
        with self._no_writer("Restarting"):
            entries = self._journal.entries()
            if not entries or not all(entry.is_done for entry in entries):
                raise RestoreRefused(
                    "Restarting the machine from its disks: they have not been restored completely"
                )
            self._write_heads()
            self._is_restarting = True
        log.info("restart core=%s", core.name)
        self._console.tell("Restored. The machine is restarting from its own disk.")
        channel.send_control({"type": "restarting"})
        restart = threading.Timer(_RESTART_DELAY_SECONDS, self._machine.restart)
        restart.daemon = True
        restart.start()

    def _write_heads(self) -> None:
        """Make the disks bootable; the boot disk comes last."""
        for disk in reversed(self._machine.disks()):
            entry = self._journal.find(disk.key)
            if entry is not None:
                write_head(disk.path, bytes.fromhex(entry.head_hex))

    def _get_disk(self, number: int) -> RescueDisk:
        disks = self._machine.disks()
        for disk in disks:
            if disk.number == number:
                return disk
        raise RestoreRefused(f"Restoring disk {number}: the machine has only {len(disks)} disks")

    def _disks_of(self, token: str) -> list[tuple[RescueDisk, DiskRestore]]:
        entries = self._journal.find_all(token)
        return [(disk, entries[disk.key]) for disk in self._machine.disks() if disk.key in entries]

    @contextmanager
    def _only_writer(self, number: int, core: TrustedCore, channel: Channel) -> Iterator[None]:
        """Be the only writer of the disk; a core's new call ends its own older one."""
        writing = _Writing(core.fingerprint, f"core {core.name!r}, since {now_text()}", channel)
        with self._changed:
            self._take_over(number, core)
            self._writing[number] = writing
        try:
            yield
        finally:
            with self._changed:
                del self._writing[number]
                self._changed.notify_all()

    def _take_over(self, number: int, core: TrustedCore) -> None:
        older = self._writing.get(number)
        if older is not None and older.fingerprint == core.fingerprint:
            # Its connection may have died long ago without this side noticing.
            older.channel.abort()
            self._changed.wait_for(lambda: number not in self._writing, _TAKE_OVER_SECONDS)
        if self._is_restarting:
            raise AgentBusy("Restoring a disk: the machine is restarting")
        if number in self._writing:
            raise AgentBusy(
                f"Restoring disk {number}: it is being written for {self._writing[number].text}"
            )

    @contextmanager
    def _no_writer(self, act: str) -> Iterator[None]:
        with self._changed:
            for number, writing in self._writing.items():
                raise AgentBusy(f"{act}: disk {number} is being written for {writing.text}")
            yield


def _rescue_machine(configuration: Configuration) -> RescueMachine:
    if configuration.provider == "file":
        return FileRescueMachine(configuration.disks, configuration.state_folder)
    return LocalRescueMachine(configuration.left_out_disks)


def _wanted(message: Message) -> DiskRestore:
    capacity_bytes = get_int(message, "capacity_bytes", 512, MAX_CAPACITY_BYTES)
    if capacity_bytes % 512:
        raise ProtocolBroken(f"{capacity_bytes} bytes are not a whole number of sectors")
    since_token = None if message.get("since_token") is None else _token(message, "since_token")
    return DiskRestore(_token(message, "token"), since_token, capacity_bytes)


def _token(message: Message, name: str) -> str:
    token = get_text(message, name, _MAX_TOKEN_CHARACTERS)
    if not token:
        raise ProtocolBroken(f"Reading {message.get('type')!r}: {name} is empty")
    return token


def _continues(entry: DiskRestore, wanted: DiskRestore) -> bool:
    """Tell whether a disk already holds the wanted content, or a part of it."""
    if (entry.token, entry.capacity_bytes) != (wanted.token, wanted.capacity_bytes):
        return False
    return entry.is_done or entry.since_token == wanted.since_token


def _get_older(disk: RescueDisk, entry: DiskRestore | None, wanted: DiskRestore) -> DiskRestore:
    """Return the entry that a difference builds on, which the disk must hold completely."""
    if entry is not None and entry.is_done and entry.token == wanted.since_token:
        return entry
    holds = "nothing that this machine knows of since it was started"
    if entry is not None:
        holds = f"{entry.token}, {'complete' if entry.is_done else 'incomplete'}"
    raise RestoreUnknown(
        f"Restoring the difference from {wanted.since_token} to {wanted.token} onto {disk.path}: "
        f"the disk holds {holds}. Restore the whole point."
    )


def _send_ready(channel: Channel, entry: DiskRestore, is_resumed: bool) -> None:
    channel.send_control(
        {
            "type": "restore_ready",
            "next_grain": entry.next_grain,
            "is_done": entry.is_done,
            "is_resumed": is_resumed,
        }
    )


def _clear_tail(writer: DiskWriter, disk: RescueDisk, capacity_bytes: int) -> None:
    """Clear the end of a larger disk, which may hold an old RAID label or partition table."""
    start_bytes = max(capacity_bytes, disk.capacity_bytes - _TAIL_BYTES)
    if start_bytes < disk.capacity_bytes:
        writer.zero_bytes(start_bytes, disk.capacity_bytes - start_bytes)


def _take_runs(channel: Channel, writer: DiskWriter, capacity_bytes: int) -> None:
    """Write runs until the core reports the end, and everything is on the disk."""
    total_grains = grain_count(capacity_bytes)
    while True:
        frame = channel.receive(on_idle=writer.poll)
        if frame.kind == RESTORE_RUN:
            first_grain, grains = split_run(frame)
            _check_order(first_grain, len(grains), writer, total_grains)
            writer.write_run(first_grain, grains)
            continue
        message = control_message(frame)
        if message["type"] == "finish_disk":
            writer.finish()
            return
        if message["type"] != "zero_run":
            raise ProtocolBroken(f"In the middle of a disk, the core sent {message['type'][:40]!r}")
        first_grain = get_int(message, "first_grain", 0, total_grains)
        count = get_int(message, "grains", 1, total_grains)
        _check_order(first_grain, count, writer, total_grains)
        writer.zero_run(first_grain, count)


def _check_order(first_grain: int, count: int, writer: DiskWriter, total_grains: int) -> None:
    if not writer.submitted_grain <= first_grain <= total_grains - count:
        raise ProtocolBroken(
            f"Grains {first_grain} to {first_grain + count - 1} are out of turn: the disk has "
            f"{total_grains}, and those before {writer.submitted_grain} have arrived"
        )
