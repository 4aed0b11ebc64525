"""A core's way to its agents: pair with one, ask it about its machine, take points of it.

Each call is one connection. Whatever goes wrong is one of `agent.errors`, and what a sink raises
passes through. Nothing that an agent sends is believed before it was checked.
"""

from __future__ import annotations

import secrets
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from agent.errors import (
    AgentCertificateChanged,
    AgentError,
    AgentGone,
    AgentRefusedCore,
    AgentUnreachable,
    ProtocolBroken,
    WrongPairingCode,
    error_from_wire,
)
from agent.pairing import NONCE_BYTES, code_key, proof
from agent.protocol import (
    CONTROL,
    DIGEST_BYTES,
    DIGESTS_HEAD,
    DISK_DATA,
    DISK_DIGESTS,
    MAX_CAPACITY_BYTES,
    MAX_DISKS,
    PARENT_DIGESTS,
    PROTOCOL_VERSION,
    SLICE_GRAINS,
    Channel,
    Frame,
    Message,
    control_message,
    get_int,
    get_text,
    grain_count,
    split_digests,
    split_disk_data,
)
from agent.stream import ParentDisk
from agent.tls import core_context, fingerprint_of_der

__all__ = [
    "AgentClient",
    "CoreCredentials",
    "PairedAgent",
    "ParentDisk",
    "SnapshotResult",
    "SnapshotSink",
    "pair_with_agent",
]

DEFAULT_TIMEOUT_SECONDS = 60.0
_MAX_DISK_STREAM_OVERHEAD_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class CoreCredentials:
    """The certificate that a core shows to its agents, and its key."""

    certificate_path: Path
    key_path: Path


@dataclass(frozen=True)
class PairedAgent:
    """What a core keeps of an agent it has paired with."""

    certificate_pem: str
    fingerprint: str
    description: dict[str, Any]


@dataclass(frozen=True)
class SnapshotResult:
    """What a finished point says about itself; `taken_at` is the core's time, not the machine's."""

    description: dict[str, Any]
    consistency: str
    taken_at: datetime


class KnownDisk(Protocol):
    """What the parent point holds of a disk; `ParentDisk` is one, and so is the store's."""

    @property
    def key(self) -> str:
        """The key that the disk keeps on any hardware."""

    @property
    def number(self) -> int:
        """Its number in the parent point."""

    @property
    def cid(self) -> str:
        """The parent's content id, eight hex digits."""

    @property
    def file_hint(self) -> str:
        """Where the child finds the parent's file, relative to its own folder."""

    @property
    def capacity_bytes(self) -> int:
        """How large it was."""


class SnapshotSink(Protocol):
    """Where a point's bytes go; `recovery_store`'s PointWriter is one."""

    def begin_disk(
        self, number: int, key: str, capacity_bytes: int, cid: str, has_parent: bool
    ) -> object:
        """A disk's stream begins."""

    def write(self, number: int, data: memoryview) -> object:
        """Take the next bytes of the VMDK stream."""

    def put_digests(self, number: int, first_grain: int, digests: bytes) -> object:
        """Take the digests of a run of grains, 16 bytes each."""

    def parent_digests(self, number: int, first_grain: int, count: int) -> bytes:
        """Return what the parent point holds there; `number` is that of the new point's disk."""

    def finish_disk(self, number: int, length_bytes: int, digest_hex: str) -> object:
        """A disk's stream ends; raise when what arrived differs."""


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
        AgentUnreachable: nobody answers there, or not with the agent's protocol.
        WrongPairingCode: the code differs, or somebody stands between.
        PairingClosed: the code is used up or was wrong too often.
    """
    certificate_pem = credentials.certificate_path.read_text()
    core_nonce = secrets.token_bytes(NONCE_BYTES)
    with _connected(host, port, None, timeout_seconds) as (channel, agent_der):
        channel.send_control(
            {
                "type": "pair",
                "core_name": core_name,
                "core_certificate_pem": certificate_pem,
                "nonce": core_nonce.hex(),
            }
        )
        challenge = _receive(channel, "pair_challenge")
        salt, agent_nonce = _from_hex(challenge, "salt"), _from_hex(challenge, "nonce")
        key = code_key(code, salt)
        sides = (ssl.PEM_cert_to_DER_cert(certificate_pem), agent_der, core_nonce, agent_nonce)
        channel.send_control({"type": "pair_proof", "proof": proof(key, b"core", *sides)})
        answer = _receive(channel, "paired")
    expected = proof(key, b"agent", *sides)
    if not secrets.compare_digest(get_text(answer, "proof").encode(), expected.encode()):
        raise WrongPairingCode(
            f"Pairing with {host}:{port}: whoever answers there does not know the code. "
            "Check the address; nothing was paired."
        )
    return PairedAgent(
        certificate_pem=ssl.DER_cert_to_PEM_cert(agent_der),
        fingerprint=fingerprint_of_der(agent_der),
        description=_description(answer),
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

    def describe(self) -> dict[str, Any]:
        """Return the machine's description.

        Raises:
            AgentUnreachable: nobody answers.
            AgentCertificateChanged: somebody else answers.
            AgentRefusedCore: the agent does not know this core.
        """
        with self._connected() as channel:
            channel.send_control({"type": "describe"})
            return _description(_receive(channel, "description"))

    def trust(self, certificate_pem: str, core_name: str) -> None:
        """Have the agent answer another core too, from now on.

        Raises as `describe`.
        """
        with self._connected() as channel:
            channel.send_control(
                {"type": "trust", "core_name": core_name, "core_certificate_pem": certificate_pem}
            )
            _receive(channel, "trusted")

    def take_snapshot(
        self,
        sink: SnapshotSink,
        disks: Sequence[KnownDisk] = (),
        progress: Callable[[int, int], object] | None = None,
    ) -> SnapshotResult:
        """Have the agent take a point and give its disks to the sink.

        disks: what the parent point holds; none means a base image.
        progress(done_bytes, total_bytes): bytes of the disks that were read. What it raises ends
            the snapshot, and the agent releases its view.

        Raises, beside what `describe` raises:
            AgentBusy: the agent is taking another point.
            AgentGone: the connection broke in mid-stream.
            ProtocolBroken: the agent sent what it may not.
            SnapshotFailed: the agent could not make a consistent view, or the view did not hold.
        """
        with self._connected() as channel:
            channel.send_control(
                {"type": "take_snapshot", "disks": [_parent_entry(disk) for disk in disks]}
            )
            taken = _receive(channel, "snapshot_taken")
            taken_at = datetime.now(timezone.utc)
            description = _description(taken)
            _Receiver(channel, sink, disks, progress).receive_disks()
        return SnapshotResult(description, get_text(taken, "consistency", 100), taken_at)

    @contextmanager
    def _connected(self) -> Iterator[Channel]:
        with _connected(
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
                "installed anew, pair with it again; if not, somebody else answers there."
            )


class _Receiver:
    """Receives the disks of one point; every frame must be one that may come now."""

    def __init__(
        self,
        channel: Channel,
        sink: SnapshotSink,
        parents: Sequence[KnownDisk],
        progress: Callable[[int, int], object] | None,
    ) -> None:
        self._channel = channel
        self._sink = sink
        self._parents = {parent.key: parent for parent in parents}
        self._progress = progress
        self._keys: set[str] = set()
        self._numbers: set[int] = set()
        self._open: _OpenDisk | None = None

    def receive_disks(self) -> None:
        """Receive until the agent says that all is done."""
        while True:
            frame = self._channel.receive()
            if frame.kind == DISK_DATA:
                self._take_data(frame)
            elif frame.kind == DISK_DIGESTS:
                self._take_digests(frame)
            elif frame.kind != CONTROL:
                raise ProtocolBroken(f"The agent sent a frame of kind {frame.kind}")
            elif self._take_message(_checked_message(frame)):
                return

    def _take_message(self, message: Message) -> bool:
        kind = message["type"]
        if kind == "progress":
            self._report(message)
        elif kind == "begin_disk":
            self._begin(message)
        elif kind == "need_parent_digests":
            self._send_parent_digests(message)
        elif kind == "finish_disk":
            self._finish(message)
        elif kind == "snapshot_done":
            if self._open is not None or not self._numbers:
                raise ProtocolBroken("The agent says that a point is done whose disks are not")
            return True
        else:
            raise ProtocolBroken(f"In mid-stream the agent sent {kind[:40]!r}")
        return False

    def _report(self, message: Message) -> None:
        total_bytes = get_int(message, "total_bytes", 0, MAX_CAPACITY_BYTES * MAX_DISKS)
        done_bytes = get_int(message, "done_bytes", 0, total_bytes)
        if self._progress is not None:
            self._progress(done_bytes, total_bytes)

    def _begin(self, message: Message) -> None:
        number = get_int(message, "number", 0, MAX_DISKS)
        key = get_text(message, "key", 200)
        capacity_bytes = get_int(message, "capacity_bytes", 512, MAX_CAPACITY_BYTES)
        cid = get_text(message, "cid", 8)
        has_parent = message.get("has_parent")
        if self._open is not None or number in self._numbers or key in self._keys:
            raise ProtocolBroken(f"The agent began disk {number} ({key!r}) out of turn")
        if capacity_bytes % 512 or not _is_cid(cid) or not isinstance(has_parent, bool):
            raise ProtocolBroken(f"The agent began disk {number} ({key!r}) with wrong properties")
        parent = self._parents.get(key) if has_parent else None
        if has_parent and (parent is None or parent.capacity_bytes > capacity_bytes):
            raise ProtocolBroken(
                f"The agent sends disk {number} ({key!r}) as a change of one it was not told of"
            )
        self._numbers.add(number)
        self._keys.add(key)
        self._open = _OpenDisk(number, capacity_bytes, parent)
        self._sink.begin_disk(number, key, capacity_bytes, cid, has_parent)

    def _take_data(self, frame: Frame) -> None:
        number, data = split_disk_data(frame)
        disk = self._open_disk(number)
        disk.received_bytes += len(data)
        if disk.received_bytes > disk.limit_bytes:
            raise ProtocolBroken(
                f"Disk {number}: the agent sent more than {disk.limit_bytes} bytes, "
                "which no disk of that size needs"
            )
        self._sink.write(number, data)

    def _take_digests(self, frame: Frame) -> None:
        number, first_grain, digests = split_digests(frame)
        disk = self._open_disk(number)
        count = len(digests) // DIGEST_BYTES
        if first_grain < disk.next_digest_grain or first_grain + count > disk.grains:
            raise ProtocolBroken(
                f"Disk {number}: the agent sent digests of grains {first_grain} to "
                f"{first_grain + count - 1}, out of turn or past the end"
            )
        disk.next_digest_grain = first_grain + count
        self._sink.put_digests(number, first_grain, bytes(digests))

    def _send_parent_digests(self, message: Message) -> None:
        disk = self._open_disk(get_int(message, "number", 0, MAX_DISKS))
        first_grain = get_int(message, "first_grain", 0, max(0, disk.parent_grains - 1))
        count = get_int(message, "count", 1, SLICE_GRAINS)
        if first_grain + count > disk.parent_grains:
            raise ProtocolBroken(
                f"Disk {disk.number}: the agent asks for the digests of grains {first_grain} to "
                f"{first_grain + count - 1}, the parent has {disk.parent_grains}"
            )
        digests = self._sink.parent_digests(disk.number, first_grain, count)
        head = DIGESTS_HEAD.pack(disk.number, first_grain)
        self._channel.send(PARENT_DIGESTS, head, digests)

    def _finish(self, message: Message) -> None:
        disk = self._open_disk(get_int(message, "number", 0, MAX_DISKS))
        length_bytes = get_int(message, "length_bytes", 0, disk.limit_bytes)
        if length_bytes != disk.received_bytes:
            raise ProtocolBroken(
                f"Disk {disk.number}: the agent says it sent {length_bytes} bytes, "
                f"{disk.received_bytes} arrived"
            )
        self._sink.finish_disk(disk.number, length_bytes, get_text(message, "digest", 64))
        self._open = None

    def _open_disk(self, number: int) -> _OpenDisk:
        if self._open is None or self._open.number != number:
            raise ProtocolBroken(f"The agent sent something of disk {number}, which is not open")
        return self._open


class _OpenDisk:
    """The disk whose stream is arriving."""

    def __init__(self, number: int, capacity_bytes: int, parent: KnownDisk | None) -> None:
        self.number = number
        self.grains = grain_count(capacity_bytes)
        self.parent_grains = grain_count(parent.capacity_bytes) if parent else 0
        self.next_digest_grain = 0
        self.received_bytes = 0
        # Markers, tables and incompressible grains never add a sixteenth.
        self.limit_bytes = capacity_bytes + capacity_bytes // 16 + _MAX_DISK_STREAM_OVERHEAD_BYTES


def _parent_entry(disk: KnownDisk) -> dict[str, object]:
    return {
        "key": disk.key,
        "number": disk.number,
        "cid": disk.cid,
        "file_hint": disk.file_hint,
        "capacity_bytes": disk.capacity_bytes,
    }


def _is_cid(text: str) -> bool:
    return len(text) == 8 and all(letter in "0123456789abcdef" for letter in text)


@contextmanager
def _connected(
    host: str,
    port: int,
    credentials: CoreCredentials | None,
    timeout_seconds: float,
    check_certificate: Callable[[bytes], None] | None = None,
) -> Iterator[tuple[Channel, bytes]]:
    """Connect, check who answers, and hear the agent's greeting."""
    deadline = time.monotonic() + timeout_seconds
    context = core_context(
        credentials.certificate_path if credentials else None,
        credentials.key_path if credentials else None,
    )
    tls_socket = _handshake(host, port, context, deadline)
    try:
        agent_der = tls_socket.getpeercert(binary_form=True) or b""
        if check_certificate is not None:
            check_certificate(agent_der)
        channel = Channel(tls_socket, timeout_seconds, AgentGone)
        _greet(channel, host, port, has_certificate=credentials is not None)
        yield channel, agent_der
    finally:
        tls_socket.close()


def _handshake(host: str, port: int, context: ssl.SSLContext, deadline: float) -> ssl.SSLSocket:
    connection = None
    try:
        left_seconds = max(0.1, deadline - time.monotonic())
        connection = socket.create_connection((host, port), timeout=left_seconds)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.settimeout(max(0.1, deadline - time.monotonic()))
        return context.wrap_socket(connection)
    except (OSError, UnicodeError) as error:
        if connection is not None:
            connection.close()
        raise AgentUnreachable(
            f"Connecting to the agent at {host}:{port}: {error}. Check that the machine runs, "
            "that its understudy-agent service does, and that no firewall stands between."
        ) from error


def _greet(channel: Channel, host: str, port: int, has_certificate: bool) -> None:
    """Hear the agent's greeting, which comes first so that a refusal is seen before anything."""
    try:
        greeting = channel.receive_control("hello")
    except AgentGone as error:
        alert = error.__cause__
        if isinstance(alert, ssl.SSLError) and "alert" in (alert.reason or "").lower():
            raise AgentRefusedCore(
                f"Connecting to the agent at {host}:{port}: it does not know this core's "
                f"certificate ({alert.reason}). Pair this core with it, or have a core that is "
                "paired make the agent trust this one."
            ) from error
        raise AgentUnreachable(
            f"Connecting to the agent at {host}:{port}: it closed the connection without a "
            f"greeting. {error}"
        ) from error
    except ProtocolBroken as error:
        raise AgentUnreachable(
            f"Connecting to {host}:{port}: whatever answers there is no agent. {error}"
        ) from error
    if greeting.get("protocol") != PROTOCOL_VERSION:
        raise AgentUnreachable(
            f"Connecting to the agent at {host}:{port}: it speaks protocol "
            f"{str(greeting.get('protocol'))[:20]}, this core speaks {PROTOCOL_VERSION}. "
            "Install the agent that belongs to this core's release."
        )
    if has_certificate and greeting.get("is_trusted") is not True:
        raise AgentRefusedCore(
            f"Connecting to the agent at {host}:{port}: it no longer trusts this core."
        )


def _receive(channel: Channel, kind: str) -> Message:
    message = _checked_message(channel.receive())
    if message["type"] != kind:
        raise ProtocolBroken(f"Waiting for {kind}: the agent sent {message['type'][:40]!r}")
    return message


def _checked_message(frame: Frame) -> Message:
    message = control_message(frame)
    if message["type"] == "error":
        raise _reported_error(message)
    return message


def _reported_error(message: Message) -> AgentError:
    return error_from_wire(get_text(message, "code", 100), get_text(message, "text", 4000))


def _from_hex(message: Message, name: str) -> bytes:
    try:
        return bytes.fromhex(get_text(message, name, 200))
    except ValueError as error:
        raise ProtocolBroken(f"The agent's {name} is not hex") from error


def _description(message: Message) -> dict[str, Any]:
    description = message.get("description")
    if not isinstance(description, dict):
        raise ProtocolBroken("The agent sent no description of its machine")
    return description
