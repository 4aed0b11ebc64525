"""How a core talks to its agents: pair, describe the machine, take and restore points.

Each call makes one connection. Failures are raised as `agent.errors`; exceptions from a sink pass
through. Nothing that an agent sends is trusted before it is checked.
"""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone

from agent.client.connection import CoreCredentials, connected, receive_message
from agent.client.deadline import Deadline
from agent.client.description import MachineDescription
from agent.client.receiving import KnownDisk, Receiver, SnapshotSink
from agent.client.restoring import (
    CheckCancel,
    DiskSender,
    Progress,
    RestoredDisk,
    RestorePlan,
    RestoreState,
    read_state,
)
from agent.errors import (
    AgentCertificateChanged,
    AgentRefusedCore,
    HoldLost,
    ProtocolBroken,
    WrongPairingCode,
)
from agent.home import Home
from agent.proof import NONCE_BYTES, Exchange, Side, code_key
from agent.protocol import MAX_HOLD_SECONDS, Channel, Message, get_flag, get_int, get_text
from agent.tls import fingerprint_of_der

DEFAULT_TIMEOUT_SECONDS = 60.0
_WHY_OLD_AGENT = "the agent is from an older release"


@dataclass(frozen=True)
class PairedAgent:
    """What a core stores about an agent after pairing."""

    certificate_pem: str
    fingerprint: str
    description: MachineDescription


@dataclass(frozen=True)
class SnapshotResult:
    """A finished point; `taken_at` is the core's time, not the machine's.

    is_held: the machine's file systems are still frozen, as requested.
    is_watched: the agent is watching later writes, as requested.
    why_whole: for a point with a hold: why whole disks were read; empty if only the writes since
        the parent were read.
    """

    description: MachineDescription
    consistency: str
    taken_at: datetime
    is_held: bool = False
    is_watched: bool = False
    why_whole: str = ""


def pair_with_agent(
    host: str,
    port: int,
    code: str,
    credentials: CoreCredentials,
    core_name: str,
    timeout_seconds: float = 15,
    home: Home | None = None,
) -> PairedAgent:
    """Pair with an agent by its one-time code. It announces its machine to `home`, if given.

    Raises:
        AgentUnreachable: nothing answers, or what answers is not an agent.
        WrongPairingCode: the code is wrong, or someone is intercepting the connection.
        PairingClosed: the code has been used, or was wrong too often.
    """
    certificate_pem = credentials.certificate_path.read_text()
    core_nonce = secrets.token_bytes(NONCE_BYTES)
    with connected(host, port, None, timeout_seconds) as (channel, agent_der):
        channel.send_control(
            {
                "type": "pair",
                "core_name": core_name,
                "core_certificate_pem": certificate_pem,
                "nonce": core_nonce.hex(),
                **_home_entry(home),
            }
        )
        challenge = receive_message(channel, "pair_challenge")
        salt, agent_nonce = _from_hex(challenge, "salt"), _from_hex(challenge, "nonce")
        key = code_key(code, salt)
        core_der = ssl.PEM_cert_to_DER_cert(certificate_pem)
        exchange = Exchange(core_der, agent_der, core_nonce, agent_nonce)
        channel.send_control({"type": "pair_proof", "proof": exchange.proof(Side.CORE, key)})
        answer = receive_message(channel, "paired")
    if not exchange.is_proof(get_text(answer, "proof"), Side.AGENT, key):
        raise WrongPairingCode(
            f"Pairing with {host}:{port}: the agent that answered does not know the code. "
            "Check the address. Nothing was paired."
        )
    return PairedAgent(
        certificate_pem=ssl.DER_cert_to_PEM_cert(agent_der),
        fingerprint=fingerprint_of_der(agent_der),
        description=MachineDescription.from_json(answer.get("description")),
    )


class AgentClient:
    """Calls one paired agent. Each call makes its own connection.

    timeout_seconds: how long the agent may be silent, when connecting and in mid-stream.
    delegations_pem: what to show to an agent that does not know this core; see agent/delegation.py.
        An agent that accepts one is told to trust this core by the name `core_name` from then on.
    home: where the agent announces its machine to this core; it is told with each description.
    """

    def __init__(
        self,
        host: str,
        port: int,
        credentials: CoreCredentials,
        agent_certificate_pem: str,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        *,
        core_name: str = "",
        delegations_pem: Sequence[str] = (),
        home: Home | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._credentials = credentials
        self._certificate_der = ssl.PEM_cert_to_DER_cert(agent_certificate_pem)
        self._timeout_seconds = timeout_seconds
        self._core_name = core_name
        self._delegations_pem = delegations_pem
        self._home = home

    def describe(self) -> MachineDescription:
        """Return the machine's description.

        Raises:
            AgentUnreachable: nothing answers.
            AgentCertificateChanged: another agent answers.
            AgentRefusedCore: the agent does not know this core.
            ProtocolBroken: the description is malformed.
        """
        with self._connected() as channel:
            channel.send_control({"type": "describe", **_home_entry(self._home)})
            answer = receive_message(channel, "description")
            return MachineDescription.from_json(answer.get("description"))

    def trust(self, certificate_pem: str, core_name: str, home: Home | None = None) -> None:
        """Have the agent trust another core, and announce its machine to that core, too.

        Raises as `describe`.
        """
        with self._connected() as channel:
            _trust(channel, certificate_pem, core_name, home)

    def withdraw_delegations(self, below: int) -> None:
        """Have the agent accept no delegation of this core whose number is lower.

        Raises as `describe`.
        """
        with self._connected() as channel:
            channel.send_control({"type": "withdraw_delegations", "below": below})
            receive_message(channel, "delegations_withdrawn")

    def take_snapshot(
        self,
        sink: SnapshotSink,
        disks: Sequence[KnownDisk] = (),
        progress: Callable[[int, int], object] | None = None,
        hold_seconds: int = 0,
        watch_seconds: int = 0,
    ) -> SnapshotResult:
        """Have the agent take a point, and pass its disks to the sink.

        disks: the disks of the parent point; empty for a base image.
        progress(done_bytes, total_bytes): how much of the disks has been read. An exception from
            it ends the snapshot, and the agent releases its view.
        hold_seconds: if not zero, the file systems stay frozen after the point until the machine is
            powered off, `release_hold` is called, or `extend_hold` is not called for that long.
            They are thawed if the snapshot ends early.
        watch_seconds: if not zero, the agent may watch what is written after the point, for at most
            that long. A point with a hold and this parent then reads only those writes. Older
            agents and some machines cannot watch.

        Raises, in addition to what `describe` raises:
            AgentBusy: the agent is taking another point, or holds file systems frozen.
            AgentGone: the connection broke in mid-stream.
            ProtocolBroken: the agent violated the protocol.
            SnapshotFailed: the agent could not make a consistent view, or the view was lost.
            HoldLost: the file systems did not stay frozen until the end.
        """
        with self._connected() as channel:
            channel.send_control(
                {
                    "type": "take_snapshot",
                    "disks": [_parent_entry(disk) for disk in disks],
                    "hold_seconds": hold_seconds,
                    "watch_seconds": watch_seconds,
                }
            )
            taken = receive_message(channel, "snapshot_taken")
            taken_at = datetime.now(timezone.utc)
            description = MachineDescription.from_json(taken.get("description"))
            done = Receiver(channel, sink, disks, progress).receive_disks()
        is_held = get_flag(done, "is_held")
        if hold_seconds and not is_held:
            raise HoldLost(
                "Taking a final point: this agent cannot keep file systems frozen afterwards. "
                "Install the agent of this core's release."
            )
        return SnapshotResult(
            description,
            get_text(taken, "consistency", 100),
            taken_at,
            is_held,
            is_watched=get_flag(done, "is_watched"),
            why_whole=get_text({"why_whole": _WHY_OLD_AGENT, **done}, "why_whole")
            if hold_seconds
            else "",
        )

    def extend_hold(self) -> Deadline:
        """Restart the time for which the file systems stay frozen.

        Returns until when nothing can be written to the machine's disks. If the machine is powered
        off by then, the final point contains everything on them.

        Raises, in addition to what `describe` raises:
            HoldLost: they have been thawed, so the point is no longer the final one.
        """
        asked = Deadline.now()
        with self._connected() as channel:
            channel.send_control({"type": "extend_hold"})
            held = receive_message(channel, "held")
        return asked.after(get_int(held, "hold_seconds", 1, MAX_HOLD_SECONDS))

    def release_hold(self) -> bool:
        """Thaw the file systems; False if nothing was held.

        Raises as `describe`.
        """
        with self._connected() as channel:
            channel.send_control({"type": "release_hold"})
            return get_flag(receive_message(channel, "released"), "was_held")

    def end_watch(self) -> bool:
        """End the watch on later writes; False if there was none.

        Raises, in addition to what `describe` raises:
            RequestRefused: the agent is from an older release and cannot watch.
        """
        with self._connected() as channel:
            channel.send_control({"type": "end_watch"})
            return get_flag(receive_message(channel, "watch_ended"), "was_watched")

    def restart(self, boot_id: str) -> bool:
        """Restart the machine in its own way; False if it has restarted since that boot.

        Raises, in addition to what `describe` raises:
            AgentBusy: a point is being taken, or the machine is held frozen.
            RequestRefused: the agent is from an older release, or the machine cannot.
        """
        return self._change_power("restart", boot_id)

    def power_off(self, boot_id: str) -> bool:
        """Shut the machine down in its own way; False if it has restarted since that boot.

        Raises as `restart`.
        """
        return self._change_power("power_off", boot_id)

    def _change_power(self, act: str, boot_id: str) -> bool:
        with self._connected() as channel:
            channel.send_control({"type": act, "boot_id": boot_id})
            return get_flag(receive_message(channel, "power_changing"), "is_changing")

    def restore_disk(
        self,
        number: int,
        plan: RestorePlan,
        token: str,
        since_token: str | None = None,
        progress: Progress | None = None,
        check_cancel: CheckCancel | None = None,
    ) -> RestoredDisk:
        """Write one disk of a point onto a disk of a rescue machine.

        A second call with the same tokens resumes where the first one stopped, and skips a finished
        disk. On return, everything is on the disk and flushed except the first 4 KiB.
        `restart_from_disk` writes those, so that the machine cannot start earlier.

        number: the machine's own number for the disk.
        token: identifies the disk's new content, at most 100 characters; a point's id.
        since_token: if the plan is only a difference, what the disk has to hold completely now;
            None if the plan is whole, and whatever it does not contain becomes zero.
        progress(done_bytes, total_bytes): how much of the plan's `data_bytes` is on the disk.
        check_cancel: called often. An exception from it ends the call; the agent can resume.

        Raises, in addition to what `describe` raises:
            AgentBusy: the machine is being restored by another call.
            AgentGone: the connection broke in mid-stream.
            DiskTooSmall: the disk is smaller than the point's; nothing was written.
            RestoreFailed: the disk cannot be written, or a grain does not inflate.
            RestoreRefused: the disk does not exist, or the machine does not run the rescue medium.
            RestoreUnknown: as far as the machine knows, the disk does not hold `since_token`.
        """
        with self._connected() as channel:
            sender = DiskSender(channel, plan, progress, check_cancel)
            return sender.send(number, token, since_token)

    def restore_state(self, token: str) -> RestoreState:
        """Return the progress of the restore with that token; unknown after the machine restarts.

        Raises as `describe`.
        """
        with self._connected() as channel:
            channel.send_control({"type": "restore_state", "token": token})
            return read_state(receive_message(channel, "restore_state"))

    def finish_restore(self, token: str) -> None:
        """Check that all disks with that token are done.

        Raises, in addition to what `describe` raises:
            AgentBusy: a disk is still being written.
            RestoreUnknown: nothing has been restored with that token.
            RestoreRefused: a disk with that token is not done.
        """
        with self._connected() as channel:
            channel.send_control({"type": "finish_restore", "token": token})
            receive_message(channel, "restore_finished")

    def restart_from_disk(self) -> None:
        """Make the machine's disks bootable, and restart the machine from them.

        Raises, in addition to what `describe` raises:
            AgentBusy: a disk is still being written.
            RestoreFailed: a disk cannot be written.
            RestoreRefused: a disk is incomplete, or none has been restored.
        """
        with self._connected() as channel:
            channel.send_control({"type": "restart_from_disk"})
            receive_message(channel, "restarting")

    @contextmanager
    def _connected(self) -> Iterator[Channel]:
        with ExitStack() as stack:
            try:
                channel = stack.enter_context(self._connected_as(self._credentials))
            except AgentRefusedCore:
                if not self._become_trusted():
                    raise
                channel = stack.enter_context(self._connected_as(self._credentials))
            yield channel

    def _become_trusted(self) -> bool:
        """Show the delegations; an agent that accepts one trusts this core from then on."""
        for delegation_pem in self._delegations_pem:
            with (
                suppress(AgentRefusedCore),
                self._credentials.delegated(delegation_pem) as delegated,
                self._connected_as(delegated) as channel,
            ):
                own_pem = self._credentials.certificate_path.read_text()
                _trust(channel, own_pem, self._core_name, self._home)
                return True
        return False

    @contextmanager
    def _connected_as(self, credentials: CoreCredentials) -> Iterator[Channel]:
        with connected(
            self._host, self._port, credentials, self._timeout_seconds, self._check_certificate
        ) as (channel, _):
            yield channel

    def _check_certificate(self, certificate_der: bytes) -> None:
        if certificate_der != self._certificate_der:
            shown = fingerprint_of_der(certificate_der)
            raise AgentCertificateChanged(
                f"Connecting to {self._host}:{self._port}: the agent's certificate is {shown}, "
                f"expected {fingerprint_of_der(self._certificate_der)} from the pairing. If the "
                "agent was reinstalled, pair with it again; otherwise another machine answers "
                "there.",
                shown,
            )


def _parent_entry(disk: KnownDisk) -> dict[str, object]:
    return {
        "key": disk.key,
        "number": disk.number,
        "cid": disk.cid,
        "file_hint": disk.file_hint,
        "capacity_bytes": disk.capacity_bytes,
    }


def _home_entry(home: Home | None) -> Message:
    return {"home": home.to_json()} if home else {}


def _from_hex(message: Message, name: str) -> bytes:
    try:
        return bytes.fromhex(get_text(message, name, 200))
    except ValueError as error:
        raise ProtocolBroken(f"The agent's {name} is not hex") from error


def _trust(channel: Channel, certificate_pem: str, core_name: str, home: Home | None) -> None:
    channel.send_control(
        {
            "type": "trust",
            "core_name": core_name,
            "core_certificate_pem": certificate_pem,
            **_home_entry(home),
        }
    )
    receive_message(channel, "trusted")
