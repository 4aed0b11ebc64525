"""How a core talks to its agents: pair, describe the machine, take and restore points.

Each call is one connection. Failures are raised as `agent.errors`; what a sink raises passes
through. Nothing an agent sends is trusted before it is checked.
"""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from agent.client.connection import CoreCredentials, connected, receive_message
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
from agent.errors import AgentCertificateChanged, HoldLost, ProtocolBroken, WrongPairingCode
from agent.pairing import NONCE_BYTES, code_key, proof
from agent.protocol import MAX_HOLD_SECONDS, Channel, Message, get_flag, get_int, get_text
from agent.tls import fingerprint_of_der

DEFAULT_TIMEOUT_SECONDS = 60.0
_WHY_OLD_AGENT = "the agent is from an older release"


@dataclass(frozen=True)
class PairedAgent:
    """What a core keeps of an agent it has paired with."""

    certificate_pem: str
    fingerprint: str
    description: MachineDescription


@dataclass(frozen=True)
class SnapshotResult:
    """What a finished point says about itself; `taken_at` is the core's time, not the machine's.

    is_held: the machine's file systems are still frozen, as was asked.
    is_watched: the agent keeps watch of what is written since, as was asked.
    why_whole: of a point with a hold: why whole disks were read for it; empty if only that was
        read which was written since the parent.
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
) -> PairedAgent:
    """Pair with an agent by its one-time code.

    Raises:
        AgentUnreachable: nothing answers there, or something other than an agent.
        WrongPairingCode: the code is wrong, or someone is intercepting the connection.
        PairingClosed: the code was used already, or was wrong too often.
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
            }
        )
        challenge = receive_message(channel, "pair_challenge")
        salt, agent_nonce = _from_hex(challenge, "salt"), _from_hex(challenge, "nonce")
        key = code_key(code, salt)
        sides = (ssl.PEM_cert_to_DER_cert(certificate_pem), agent_der, core_nonce, agent_nonce)
        channel.send_control({"type": "pair_proof", "proof": proof(key, b"core", *sides)})
        answer = receive_message(channel, "paired")
    expected = proof(key, b"agent", *sides)
    if not secrets.compare_digest(get_text(answer, "proof").encode(), expected.encode()):
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
    """Calls one paired agent. Holds no connection; each call makes its own.

    timeout_seconds: how long the agent may be silent, at the beginning and in mid-stream.
    """

    def __init__(
        self,
        host: str,
        port: int,
        credentials: CoreCredentials,
        agent_certificate_pem: str,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> None:
        self._host = host
        self._port = port
        self._credentials = credentials
        self._certificate_der = ssl.PEM_cert_to_DER_cert(agent_certificate_pem)
        self._timeout_seconds = timeout_seconds

    def describe(self) -> MachineDescription:
        """Return the machine's description.

        Raises:
            AgentUnreachable: nothing answers.
            AgentCertificateChanged: another agent answers.
            AgentRefusedCore: the agent does not know this core.
            ProtocolBroken: the description is malformed.
        """
        with self._connected() as channel:
            channel.send_control({"type": "describe"})
            answer = receive_message(channel, "description")
            return MachineDescription.from_json(answer.get("description"))

    def trust(self, certificate_pem: str, core_name: str) -> None:
        """Have the agent trust another core as well.

        Raises as `describe`.
        """
        with self._connected() as channel:
            channel.send_control(
                {"type": "trust", "core_name": core_name, "core_certificate_pem": certificate_pem}
            )
            receive_message(channel, "trusted")

    def take_snapshot(
        self,
        sink: SnapshotSink,
        disks: Sequence[KnownDisk] = (),
        progress: Callable[[int, int], object] | None = None,
        hold_seconds: int = 0,
        watch_seconds: int = 0,
    ) -> SnapshotResult:
        """Have the agent take a point, and pass its disks to the sink.

        disks: what the parent point holds; empty for a base image.
        progress(done_bytes, total_bytes): how much of the disks has been read. An exception from
            it ends the snapshot, and the agent releases its view.
        hold_seconds: not zero: the file systems stay frozen after the point, until the machine is
            powered off, `release_hold`, or that many seconds without `extend_hold`. Whatever ends
            the snapshot early thaws them.
        watch_seconds: not zero: the agent may keep watch of what is written after the point, at
            most that long. A point with a hold that has this one as its parent then reads only
            that. An older agent, and some machines, do not.

        Raises, beside what `describe` raises:
            AgentBusy: the agent is taking another point, or holds file systems frozen.
            AgentGone: the connection broke in mid-stream.
            ProtocolBroken: the agent sent what it may not.
            SnapshotFailed: the agent could not make a consistent view, or the view did not hold.
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

    def extend_hold(self) -> datetime:
        """Restart the time for which the file systems stay frozen.

        Returns the time by this core's clock until which nothing can be written to the machine's
        disks. A machine seen powered off by then holds nothing that the final point has not.

        Raises, beside what `describe` raises:
            HoldLost: they were thawed meanwhile, so the point is not the final one.
        """
        asked_at = datetime.now(timezone.utc)
        with self._connected() as channel:
            channel.send_control({"type": "extend_hold"})
            held = receive_message(channel, "held")
        seconds = get_int(held, "hold_seconds", 1, MAX_HOLD_SECONDS)
        return asked_at + timedelta(seconds=seconds)

    def release_hold(self) -> bool:
        """Thaw the file systems; False if nothing was held.

        Raises as `describe`.
        """
        with self._connected() as channel:
            channel.send_control({"type": "release_hold"})
            return get_flag(receive_message(channel, "released"), "was_held")

    def end_watch(self) -> bool:
        """End the watch on what is written; False if there was none.

        Raises, beside what `describe` raises:
            RequestRefused: the agent is older, and so never keeps watch.
        """
        with self._connected() as channel:
            channel.send_control({"type": "end_watch"})
            return get_flag(receive_message(channel, "watch_ended"), "was_watched")

    def restore_disk(
        self,
        number: int,
        plan: RestorePlan,
        token: str,
        since_token: str | None = None,
        progress: Progress | None = None,
        check_cancel: CheckCancel | None = None,
    ) -> RestoredDisk:
        """Write one disk of a point onto a disk of a machine that runs the rescue medium.

        Called again with the same tokens, it resumes where it stopped; a finished disk is skipped.
        When it returns, everything is on the disk and flushed except the first 4 KiB. Those are
        written by `restart_from_disk`, so that the machine cannot start earlier.

        number: the machine's own number of the disk.
        token: names what the disk holds afterwards, at most 100 characters; a point's id.
        since_token: what the disk has to hold now, completely, if the plan is only a difference;
            None: the plan is whole, and whatever it does not name becomes zero.
        progress(done_bytes, total_bytes): of the plan's `data_bytes`, those that are on the disk.
        check_cancel: called often; an exception from it ends the call; the agent keeps its place.

        Raises, beside what `describe` raises:
            AgentBusy: the machine is being restored by another call.
            AgentGone: the connection broke in mid-stream.
            DiskTooSmall: the disk is smaller than the point's; nothing was written.
            RestoreFailed: the disk cannot be written, or a grain does not inflate.
            RestoreRefused: there is no such disk, or the machine does not run the rescue medium.
            RestoreUnknown: the disk does not hold `since_token` as far as the machine knows.
        """
        with self._connected() as channel:
            sender = DiskSender(channel, plan, progress, check_cancel)
            return sender.send(number, token, since_token)

    def restore_state(self, token: str) -> RestoreState:
        """Return how far the restore with that token is; unknown after the machine restarts.

        Raises as `describe`.
        """
        with self._connected() as channel:
            channel.send_control({"type": "restore_state", "token": token})
            return read_state(receive_message(channel, "restore_state"))

    def finish_restore(self, token: str) -> None:
        """Check that all disks of that token are done.

        Raises, beside what `describe` raises:
            AgentBusy: a disk is still being written.
            RestoreUnknown: nothing was restored with that token.
            RestoreRefused: a disk of it is not done.
        """
        with self._connected() as channel:
            channel.send_control({"type": "finish_restore", "token": token})
            receive_message(channel, "restore_finished")

    def restart_from_disk(self) -> None:
        """Make the machine's disks bootable, and restart it into what was restored.

        Raises, beside what `describe` raises:
            AgentBusy: a disk is still being written.
            RestoreFailed: a disk cannot be written.
            RestoreRefused: a disk is half written, or none was restored.
        """
        with self._connected() as channel:
            channel.send_control({"type": "restart_from_disk"})
            receive_message(channel, "restarting")

    @contextmanager
    def _connected(self) -> Iterator[Channel]:
        with connected(
            self._host,
            self._port,
            self._credentials,
            self._timeout_seconds,
            self._check_certificate,
        ) as (channel, _):
            yield channel

    def _check_certificate(self, certificate_der: bytes) -> None:
        if certificate_der != self._certificate_der:
            raise AgentCertificateChanged(
                f"Connecting to {self._host}:{self._port}: the agent's certificate is "
                f"{fingerprint_of_der(certificate_der)}, expected "
                f"{fingerprint_of_der(self._certificate_der)} from the pairing. If the agent was "
                "reinstalled, pair with it again; otherwise another machine answers there."
            )


def _parent_entry(disk: KnownDisk) -> dict[str, object]:
    return {
        "key": disk.key,
        "number": disk.number,
        "cid": disk.cid,
        "file_hint": disk.file_hint,
        "capacity_bytes": disk.capacity_bytes,
    }


def _from_hex(message: Message, name: str) -> bytes:
    try:
        return bytes.fromhex(get_text(message, name, 200))
    except ValueError as error:
        raise ProtocolBroken(f"The agent's {name} is not hex") from error
