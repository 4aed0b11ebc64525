"""What the agent does on a running machine: take points, and keep it frozen after the final one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agent.configuration import Configuration
from agent.duty import Answer, Host
from agent.errors import AgentBusy, HoldLost, ProtocolBroken
from agent.machine import InitramfsDrivers
from agent.protocol import (
    MAX_CAPACITY_BYTES,
    MAX_DISKS,
    MAX_HOLD_SECONDS,
    Channel,
    Message,
    get_int,
    get_text,
)
from agent.providers import Provider
from agent.providers.choice import choose_provider
from agent.providers.hold import Hold
from agent.quiet_log import hold_back_logs, let_logs_go
from agent.state import TrustedCore, now_text
from agent.stream import ParentDisk, description_of, send_view

log = logging.getLogger(__name__)


class ProtectDuty:
    """Takes one point at a time."""

    mode = "protect"

    def __init__(self, configuration: Configuration, host: Host) -> None:
        self._initramfs = InitramfsDrivers(configuration.state_folder)
        self._provider: Provider = choose_provider(configuration)
        self._host = host
        self._lock = threading.Lock()
        self._snapshot_of = ""
        self._hold: Hold | None = None
        self._hold_of: TrustedCore | None = None

    def start(self) -> None:
        """Begin to list the drivers in the initramfs."""
        self._initramfs.start()

    def stop(self) -> None:
        """Thaw what is held."""
        hold = self._hold
        if hold is not None:
            hold.release()

    def describe(self) -> Message:
        """Return the disks, what holds them still, and the drivers that are there at boot."""
        return {
            "disks": [description_of(disk) for disk in self._provider.disks()],
            "initramfs_drivers": self._initramfs.get(),
            "snapshot_provider": self._provider.name,
        }

    def answers(self) -> dict[str, Answer]:
        """Return the requests that are answered beside those of every agent."""
        return {
            "take_snapshot": self._take_snapshot,
            "extend_hold": self._extend_hold,
            "release_hold": self._release_hold,
        }

    def _take_snapshot(self, channel: Channel, core: TrustedCore, message: Message) -> None:
        """Take a view of all disks, stream it, release it; with a hold, keep the machine frozen.

        Raises:
            AgentBusy: another point is being taken, or the machine is held frozen.
            SnapshotFailed: there is no consistent view, or it did not hold.
            HoldLost: the watchdog thawed before the end.
        """
        parents = _parent_disks(message)
        hold_seconds = get_int({"hold_seconds": 0, **message}, "hold_seconds", 0, MAX_HOLD_SECONDS)
        with self._only_snapshot(core):
            self._end_older_hold(core, hold_seconds)
            if hold_seconds:
                self._stream_and_hold(channel, core, parents, hold_seconds)
            else:
                self._stream(channel, core, parents, None)

    def _stream(
        self,
        channel: Channel,
        core: TrustedCore,
        parents: dict[str, ParentDisk],
        hold: Hold | None,
    ) -> None:
        started_at = time.monotonic()
        description = self._host.describe()
        with self._provider.open_view(hold) as view:
            channel.send_control(
                {
                    "type": "snapshot_taken",
                    "description": description,
                    "consistency": view.consistency,
                }
            )
            send_view(channel, view, parents, beat=hold.extend if hold else None)
        if hold is not None:
            hold.extend()
        # After the release: the core must never see a point done whose view was lost.
        channel.send_control({"type": "snapshot_done", "is_held": hold is not None})
        log.info(
            "snapshot done core=%s disks=%d is_held=%s sent_bytes=%d seconds=%.1f",
            core.name,
            len(description["disks"]),
            hold is not None,
            channel.sent_bytes,
            time.monotonic() - started_at,
        )

    def _stream_and_hold(
        self,
        channel: Channel,
        core: TrustedCore,
        parents: dict[str, ParentDisk],
        hold_seconds: int,
    ) -> None:
        self._host.freeze_answers()
        hold_back_logs()
        hold = Hold(hold_seconds, self._go_on)
        self._hold, self._hold_of = hold, core
        try:
            self._stream(channel, core, parents, hold)
        except BaseException:
            hold.release()
            raise

    def _go_on(self) -> None:
        """Answer and log as ever, after a thaw."""
        self._hold = None
        self._host.thaw_answers()
        let_logs_go()
        log.info("hold over")

    def _end_older_hold(self, core: TrustedCore, hold_seconds: int) -> None:
        """Thaw for a final point that is taken anew; any other point has to wait."""
        hold, owner = self._hold, self._hold_of
        if hold is None or owner is None:
            return
        if not hold_seconds or owner.fingerprint != core.fingerprint:
            raise AgentBusy(
                "Taking a recovery point: the machine is held frozen after a final point of core "
                f"{owner.name!r}, until that powers it off or lets it go on."
            )
        hold.release()

    def _extend_hold(self, channel: Channel, _core: TrustedCore, _message: Message) -> None:
        hold = self._hold
        if hold is None:
            raise HoldLost(
                "The machine's file systems are not held frozen: they never were since the agent "
                "was started, or they were thawed and the machine went on. Take the final point "
                "anew."
            )
        hold.extend()
        channel.send_control({"type": "held", "hold_seconds": hold.limit_seconds})

    def _release_hold(self, channel: Channel, _core: TrustedCore, _message: Message) -> None:
        hold = self._hold
        was_held = hold is not None and hold.release()
        channel.send_control({"type": "released", "was_held": was_held})

    @contextmanager
    def _only_snapshot(self, core: TrustedCore) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            raise AgentBusy(
                f"Taking a recovery point: the agent is taking another one for "
                f"{self._snapshot_of}. Try again when that is done."
            )
        try:
            self._snapshot_of = f"core {core.name!r}, since {now_text()}"
            yield
        finally:
            self._lock.release()


def _parent_disks(message: Message) -> dict[str, ParentDisk]:
    entries: Any = message.get("disks")
    if not isinstance(entries, list) or len(entries) > MAX_DISKS:
        raise ProtocolBroken("The request for a point names no list of parent disks")
    parents = {}
    for entry in entries:
        if not isinstance(entry, dict):
            raise ProtocolBroken("A parent disk in the request for a point is no object")
        parent = ParentDisk(
            key=get_text(entry, "key", 200),
            number=get_int(entry, "number", 0, MAX_DISKS),
            cid=get_text(entry, "cid", 8),
            file_hint=get_text(entry, "file_hint"),
            capacity_bytes=get_int(entry, "capacity_bytes", 512, MAX_CAPACITY_BYTES),
        )
        parents[parent.key] = parent
    return parents
