"""What the agent does on a running machine: take points, watch later writes, hold it frozen."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from agent.configuration import Configuration
from agent.duty import Answer, Host
from agent.errors import AgentBusy, HoldLost, ProtocolBroken
from agent.machine import InitramfsDrivers, boot_id
from agent.power import POWER_OFF, RESTART, power_of
from agent.protocol import (
    MAX_CAPACITY_BYTES,
    MAX_DISKS,
    MAX_HOLD_SECONDS,
    MAX_WATCH_SECONDS,
    Channel,
    Message,
    get_int,
    get_text,
)
from agent.providers import Provider, View
from agent.providers.choice import choose_provider
from agent.providers.hold import Hold
from agent.providers.watch import Watch
from agent.quiet_log import hold_back_logs, let_logs_go
from agent.state import TrustedCore, now_text
from agent.stream import ParentDisk, description_of, send_view

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Order:
    """A core's request for a point.

    hold: keeps file systems frozen after the point.
    watch: starts with the point.
    since: may know what has been written since the parent.
    """

    parents: dict[str, ParentDisk]
    hold: Hold | None = None
    watch: Watch | None = None
    since: Watch | None = None


class ProtectDuty:
    """Takes one point at a time.

    provider: replaces the configured one.
    """

    mode = "protect"

    def __init__(
        self, configuration: Configuration, host: Host, provider: Provider | None = None
    ) -> None:
        self._initramfs = InitramfsDrivers(configuration.state_folder)
        self._power = power_of(configuration)
        self._provider: Provider = provider or choose_provider(configuration)
        self._host = host
        self._lock = threading.Lock()
        self._snapshot_of = ""
        self._hold: Hold | None = None
        self._hold_of: TrustedCore | None = None
        self._watch: Watch | None = None

    def start(self) -> None:
        """Start listing the drivers in the initramfs."""
        self._initramfs.start()

    def stop(self) -> None:
        """End the hold and the watch."""
        hold, watch = self._hold, self._watch
        if hold is not None:
            hold.release()
        if watch is not None:
            watch.release("the agent was stopped")

    def describe(self) -> Message:
        """Return the disks, the drivers in the initramfs, and what this agent can do."""
        return {
            "disks": [description_of(disk) for disk in self._provider.disks()],
            "initramfs_drivers": self._initramfs.get(),
            "snapshot_provider": self._provider.name,
            "can_watch": self._provider.can_watch,
            "reads_settings_disk": True,
        }

    def answers(self) -> dict[str, Answer]:
        """Return the requests that only a protecting agent answers."""
        return {
            "take_snapshot": self._take_snapshot,
            "extend_hold": self._extend_hold,
            "release_hold": self._release_hold,
            "end_watch": self._end_watch,
            "restart": self._restart,
            "power_off": self._power_off,
        }

    def _take_snapshot(self, channel: Channel, core: TrustedCore, message: Message) -> None:
        """Take a view of all disks, stream and release it; with a hold, keep the machine frozen.

        For a final point, the watch that followed its parent tells what to read. Any other point
        ends the watch, and so does a final point with another parent.

        Raises:
            AgentBusy: another point is being taken, or the machine is held frozen.
            SnapshotFailed: a consistent view could not be made, or was lost.
            HoldLost: the watchdog thawed the file systems before the end.
        """
        parents = _parent_disks(message)
        hold_seconds = get_int({"hold_seconds": 0, **message}, "hold_seconds", 0, MAX_HOLD_SECONDS)
        watch_seconds = get_int(
            {"watch_seconds": 0, **message}, "watch_seconds", 0, MAX_WATCH_SECONDS
        )
        with self._only_snapshot(core):
            self._end_older_hold(core, hold_seconds)
            since = self._take_watch(parents, hold_seconds)
            try:
                if hold_seconds:
                    self._stream_and_hold(channel, core, parents, since, hold_seconds)
                else:
                    watch = Watch(watch_seconds) if watch_seconds else None
                    self._stream(channel, core, _Order(parents, watch=watch))
            finally:
                if since is not None:
                    since.release("the final point was not taken")

    def _take_watch(self, parents: dict[str, ParentDisk], hold_seconds: int) -> Watch | None:
        """Return the watch for a final point; end it for any other point or parent."""
        watch, self._watch = self._watch, None
        if watch is None:
            return None
        if not hold_seconds:
            watch.release("another point was taken")
            return None
        if watch.cids != {key: disk.cid for key, disk in parents.items()}:
            watch.release("the watch followed a different parent point")
        return watch

    def _stream(self, channel: Channel, core: TrustedCore, order: _Order) -> None:
        started_at = time.monotonic()
        description = self._host.describe()
        hold, watch = order.hold, order.watch
        with self._provider.open_view(hold, watch, order.since) as view:
            why_whole = _why_whole(order, view)
            channel.send_control(
                {
                    "type": "snapshot_taken",
                    "description": description,
                    "consistency": view.consistency,
                }
            )
            cids = send_view(channel, view, order.parents, beat=hold.extend if hold else None)
        if hold is not None:
            hold.extend()
        if watch is not None and watch.is_active:
            watch.cids = cids
            self._watch = watch
        # After the release: a point whose view was lost must never look done to the core.
        channel.send_control(
            {
                "type": "snapshot_done",
                "is_held": hold is not None,
                "is_watched": watch is not None and watch.is_active,
                "why_whole": why_whole,
            }
        )
        log.info(
            "snapshot done core=%s disks=%d is_held=%s is_watched=%s why_whole=%s sent_bytes=%d "
            "seconds=%.1f",
            core.name,
            len(description["disks"]),
            hold is not None,
            watch is not None and watch.is_active,
            why_whole or "-",
            channel.sent_bytes,
            time.monotonic() - started_at,
        )

    def _stream_and_hold(
        self,
        channel: Channel,
        core: TrustedCore,
        parents: dict[str, ParentDisk],
        since: Watch | None,
        hold_seconds: int,
    ) -> None:
        self._host.freeze_answers()
        hold_back_logs()
        hold = Hold(hold_seconds, self._end_freeze)
        self._hold, self._hold_of = hold, core
        try:
            self._stream(channel, core, _Order(parents, hold=hold, since=since))
        except BaseException:
            hold.release()
            raise

    def _end_freeze(self) -> None:
        """Return to normal answering and logging after a thaw."""
        self._hold = None
        self._host.thaw_answers()
        let_logs_go()
        log.info("hold over")

    def _end_older_hold(self, core: TrustedCore, hold_seconds: int) -> None:
        """Thaw if the same core takes the final point again; any other point has to wait."""
        hold, owner = self._hold, self._hold_of
        if hold is None or owner is None:
            return
        if not hold_seconds or owner.fingerprint != core.fingerprint:
            raise AgentBusy(
                "Taking a recovery point: the machine is held frozen after a final point of core "
                f"{owner.name!r}, until that core powers it off or releases the hold."
            )
        hold.release()

    def _extend_hold(self, channel: Channel, _core: TrustedCore, _message: Message) -> None:
        hold = self._hold
        if hold is None:
            raise HoldLost(
                "The machine's file systems are not held frozen. Either they never were since the "
                "agent started, or they were thawed and the machine kept running. Take the final "
                "point again."
            )
        hold.extend()
        channel.send_control({"type": "held", "hold_seconds": hold.limit_seconds})

    def _release_hold(self, channel: Channel, _core: TrustedCore, _message: Message) -> None:
        hold = self._hold
        was_held = hold is not None and hold.release()
        channel.send_control({"type": "released", "was_held": was_held})

    def _end_watch(self, channel: Channel, _core: TrustedCore, _message: Message) -> None:
        watch = self._watch
        was_watched = watch is not None and watch.release("the core ended it")
        channel.send_control({"type": "watch_ended", "was_watched": was_watched})

    def _restart(self, channel: Channel, core: TrustedCore, message: Message) -> None:
        """Restart the machine, unless it has restarted since that boot.

        Raises:
            AgentBusy: a point is being taken, or the machine is held frozen.
        """
        self._change_power(RESTART, channel, core, message)

    def _power_off(self, channel: Channel, core: TrustedCore, message: Message) -> None:
        """Shut the machine down. Raises as `_restart`."""
        self._change_power(POWER_OFF, channel, core, message)

    def _change_power(
        self, act: str, channel: Channel, core: TrustedCore, message: Message
    ) -> None:
        is_that_boot = get_text(message, "boot_id", 200) == boot_id()
        if is_that_boot:
            if self._hold is not None:
                raise AgentBusy("The machine is held frozen after a final point")
            with self._only_snapshot(core):
                self._power.do(act)
            log.info("told to %s core=%s", act, core.name)
        channel.send_control({"type": "power_changing", "is_changing": is_that_boot})

    @contextmanager
    def _only_snapshot(self, core: TrustedCore) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            raise AgentBusy(
                "Taking a recovery point: the agent is already taking one for "
                f"{self._snapshot_of}. Try again when that is done."
            )
        try:
            self._snapshot_of = f"core {core.name!r}, since {now_text()}"
            yield
        finally:
            self._lock.release()


def _why_whole(order: _Order, view: View) -> str:
    """Return why whole disks are read for a final point; empty if they are not."""
    if order.hold is None or all(disk.changed is not None for disk in view.disks):
        return ""
    if order.since is None:
        return "no earlier point was watched"
    return order.since.ended_because or "the later writes are unknown"


def _parent_disks(message: Message) -> dict[str, ParentDisk]:
    entries: Any = message.get("disks")
    if not isinstance(entries, list) or len(entries) > MAX_DISKS:
        raise ProtocolBroken("The request for a point has no valid list of parent disks")
    parents = {}
    for entry in entries:
        if not isinstance(entry, dict):
            raise ProtocolBroken("A parent disk in the request for a point is not an object")
        parent = ParentDisk(
            key=get_text(entry, "key", 200),
            number=get_int(entry, "number", 0, MAX_DISKS),
            cid=get_text(entry, "cid", 8),
            file_hint=get_text(entry, "file_hint"),
            capacity_bytes=get_int(entry, "capacity_bytes", 512, MAX_CAPACITY_BYTES),
        )
        parents[parent.key] = parent
    return parents
