"""Frames between a core and an agent. Both sides use this module, so they cannot disagree.

A connection is TLS 1.3 and carries frames: one byte kind, four bytes length (big endian), payload.
Control frames are JSON objects with a `type`; disk bytes and digests travel in binary frames.
`docs/agent.md` has the byte tables. This module does not know what the messages mean.

A `Channel` reads while it waits to write, so two sides that both send cannot deadlock.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Union

from blake3 import blake3

from agent.errors import AgentError, ProtocolBroken
from agent.reasons import reason_of

PROTOCOL_VERSION = 1
DEFAULT_PORT = 8006
GRAIN_BYTES = 64 * 1024
DIGEST_BYTES = 16
SLICE_GRAINS = 8192  # digests travel in slices of this many grains: 128 KiB
SLICES_AHEAD = 2  # slices of parent digests that an agent requests in advance

CONTROL = 1
DISK_DATA = 2
DISK_DIGESTS = 3
PARENT_DIGESTS = 4
RESTORE_RUN = 5

HEADER = struct.Struct(">BI")  # kind, payload length
DISK_DATA_HEAD = struct.Struct(">H")  # disk number
DIGESTS_HEAD = struct.Struct(">HQ")  # disk number, first grain
RUN_HEAD = struct.Struct(">QH32s")  # first grain, grains, BLAKE3 of the rest of the payload

MAX_DATA_BYTES = 1024 * 1024  # of a disk in one frame
MAX_RUN_GRAINS = 64
MAX_RUN_BYTES = 2 * 1024 * 1024  # compressed, in one frame
_IDLE_SECONDS = 1.0
_RUN_LENGTH_BYTES = 4  # one for each grain, before the data
_MAX_PAYLOAD_BYTES = {
    CONTROL: 1024 * 1024,
    DISK_DATA: DISK_DATA_HEAD.size + MAX_DATA_BYTES,
    DISK_DIGESTS: DIGESTS_HEAD.size + SLICE_GRAINS * DIGEST_BYTES,
    PARENT_DIGESTS: DIGESTS_HEAD.size + SLICE_GRAINS * DIGEST_BYTES,
    RESTORE_RUN: RUN_HEAD.size + MAX_RUN_GRAINS * _RUN_LENGTH_BYTES + MAX_RUN_BYTES,
}
_MAX_UNREAD_BYTES = 4 * 1024 * 1024  # what may arrive while this side is still sending
MAX_CAPACITY_BYTES = 256 * 1024**4
MAX_DISKS = 256
MAX_HOLD_SECONDS = 900
MAX_WATCH_SECONDS = 24 * 3600

Data = Union[bytes, bytearray, memoryview]
Message = dict[str, Any]


class Frame(NamedTuple):
    """One received frame."""

    kind: int
    payload: memoryview


class Channel:
    """Frames over a TLS socket, with a limit on how long the other side may be silent.

    Owns the socket. `peer_gone` is the class of error to raise when the other side is lost; a core
    and an agent have different ones. Only one thread at a time may use a channel.

    on_arrival: called when something has arrived while this side waits to send. If it raises, the
        frame being sent is incomplete, so the connection has to be closed.
    """

    def __init__(
        self, tls_socket: ssl.SSLSocket, silence_seconds: float, peer_gone: type[AgentError]
    ) -> None:
        self.silence_seconds = silence_seconds
        self.on_arrival: Callable[[], object] | None = None
        self._socket = tls_socket
        self._socket.setblocking(False)
        self._peer_gone = peer_gone
        self._poll = select.poll()
        self._poll.register(tls_socket, select.POLLIN)
        self._waiting: deque[Frame] = deque()
        self._waiting_bytes = 0
        self._kind = 0
        self._buffer = memoryview(bytearray(HEADER.size))
        self._filled_bytes = 0
        self._in_payload = False
        self.received_bytes = 0
        self.sent_bytes = 0

    @property
    def peer_host(self) -> str:
        """Where the other side calls from; empty if the connection is gone."""
        try:
            return str(self._socket.getpeername()[0])
        except OSError:
            return ""

    def send_control(self, message: Message) -> None:
        """Send a JSON message; it needs a `type`."""
        self.send(CONTROL, json.dumps(message, separators=(",", ":")).encode())

    def send(self, kind: int, *parts: Data) -> None:
        """Send a frame whose payload is the joined `parts`.

        The parts are copied together, since a TLS record for each would cost both sides more.

        Raises:
            AgentError: of the class `peer_gone`, if the other side is lost or accepts nothing for
                `silence_seconds`.
        """
        length_bytes = sum(len(part) for part in parts)
        if length_bytes > _MAX_PAYLOAD_BYTES[kind]:
            raise ProtocolBroken(
                f"Sending a frame of kind {kind}: {length_bytes} bytes, "
                f"at most {_MAX_PAYLOAD_BYTES[kind]} are allowed"
            )
        self._send_bytes(b"".join((HEADER.pack(kind, length_bytes), *parts)))

    def receive(self, on_idle: Callable[[], object] | None = None) -> Frame:
        """Wait for the next frame and return it.

        on_idle: called about once a second while nothing arrives; it may send.

        Raises:
            AgentError: of the class `peer_gone`, if the other side is lost or silent.
            ProtocolBroken: the frame's kind or length is not allowed.
        """
        while not self._waiting:
            if not self._read_some():
                self._wait(select.POLLIN, on_idle)
        return self._take_waiting()

    def find_waiting(self) -> Frame | None:
        """Return the next frame if it has already arrived."""
        while not self._waiting and self._read_some():
            pass
        return self._take_waiting() if self._waiting else None

    def receive_control(self, *types: str) -> Message:
        """Return the next message, which must be a control message of one of `types`.

        Raises:
            ProtocolBroken: the next frame is something else.
        """
        message = control_message(self.receive())
        if types and message["type"] not in types:
            raise ProtocolBroken(
                f"Waiting for {' or '.join(types)}: the other side sent {message['type'][:40]!r}"
            )
        return message

    def drain(self, limit_seconds: float) -> None:
        """Discard whatever arrives until the other side closes the connection, or the limit passes.

        Closing with unread bytes would reset the connection, and the other side might lose the last
        message sent to it.
        """
        deadline = time.monotonic() + limit_seconds
        self._poll.modify(self._socket, select.POLLIN)
        with contextlib.suppress(OSError):
            while time.monotonic() < deadline:
                try:
                    if not self._socket.recv(MAX_DATA_BYTES):
                        return
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000)

    def abort(self) -> None:
        """End the connection from another thread, whatever its owner is waiting for."""
        with contextlib.suppress(OSError):
            # The TLS socket's own method would remove the encryption while its owner uses it.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; harmless if it is closed."""
        self._socket.close()

    def _take_waiting(self) -> Frame:
        frame = self._waiting.popleft()
        self._waiting_bytes -= len(frame.payload)
        return frame

    def _send_bytes(self, data: Data) -> None:
        view = memoryview(data).cast("B")
        while view:
            try:
                sent_bytes = self._socket.send(view)
            except ssl.SSLWantWriteError:
                self._wait_to_write()
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN)
            except OSError as error:
                raise self._lost(reason_of(error)) from error
            else:
                self.sent_bytes += sent_bytes
                view = view[sent_bytes:]

    def _wait_to_write(self) -> None:
        """Wait until there is room, and read what the other side sends in the meantime."""
        if self._wait(select.POLLIN | select.POLLOUT) & select.POLLIN:
            while self._read_some():
                if self._waiting_bytes > _MAX_UNREAD_BYTES:
                    raise ProtocolBroken(
                        "The other side keeps sending without waiting for an answer"
                    )
            if self.on_arrival is not None:
                self.on_arrival()

    def _wait(self, events: int, on_idle: Callable[[], object] | None = None) -> int:
        deadline = time.monotonic() + self.silence_seconds
        while True:
            left_seconds = deadline - time.monotonic()
            if left_seconds <= 0:
                raise self._lost(f"it was silent for {self.silence_seconds:g} seconds")
            self._poll.modify(self._socket, events)
            ready = self._poll.poll(min(left_seconds, _IDLE_SECONDS) * 1000)
            if ready:
                return ready[0][1]
            if on_idle is not None:
                on_idle()
                if self._waiting:  # sending may have read a frame
                    return 0

    def _read_some(self) -> bool:
        """Read once towards the next frame; False if nothing has arrived."""
        try:
            count_bytes = self._socket.recv_into(self._buffer[self._filled_bytes :])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError as error:
            raise self._lost(reason_of(error)) from error
        if count_bytes == 0:
            raise self._lost("it closed the connection")
        self.received_bytes += count_bytes
        self._filled_bytes += count_bytes
        if self._filled_bytes == len(self._buffer):
            self._finish_part()
        return True

    def _finish_part(self) -> None:
        if self._in_payload:
            self._finish_frame()
            return
        self._kind, length_bytes = HEADER.unpack(self._buffer)
        limit_bytes = _MAX_PAYLOAD_BYTES.get(self._kind)
        if limit_bytes is None:
            raise ProtocolBroken(f"The other side sent a frame of the unknown kind {self._kind}")
        if length_bytes > limit_bytes:
            raise ProtocolBroken(
                f"The other side announced {length_bytes} bytes in a frame of kind {self._kind}, "
                f"at most {limit_bytes} are allowed"
            )
        self._buffer = memoryview(bytearray(length_bytes))
        self._filled_bytes = 0
        self._in_payload = True
        if length_bytes == 0:
            self._finish_frame()

    def _finish_frame(self) -> None:
        self._waiting.append(Frame(self._kind, self._buffer))
        self._waiting_bytes += len(self._buffer)
        self._buffer = memoryview(bytearray(HEADER.size))
        self._filled_bytes = 0
        self._in_payload = False

    def _lost(self, reason: str) -> AgentError:
        return self._peer_gone(f"The connection to the other side was lost: {reason}")


def control_message(frame: Frame) -> Message:
    """Return the JSON object of a control frame.

    Raises:
        ProtocolBroken: the frame is not a control frame, not JSON, or has no `type`.
    """
    if frame.kind != CONTROL:
        raise ProtocolBroken(f"Waiting for a message: got a binary frame of kind {frame.kind}")
    try:
        message = json.loads(bytes(frame.payload))
    except (ValueError, RecursionError) as error:
        raise ProtocolBroken("The other side sent a message that is not JSON") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ProtocolBroken("The other side sent a message without a type")
    return message


def split_disk_data(frame: Frame) -> tuple[int, memoryview]:
    """Return disk number and bytes of a DISK_DATA frame."""
    if len(frame.payload) < DISK_DATA_HEAD.size:
        raise ProtocolBroken("The other side sent disk data without a disk number")
    (number,) = DISK_DATA_HEAD.unpack_from(frame.payload)
    return number, frame.payload[DISK_DATA_HEAD.size :]


def split_digests(frame: Frame) -> tuple[int, int, memoryview]:
    """Return disk number, first grain and digests of a DISK_DIGESTS or PARENT_DIGESTS frame."""
    digests = frame.payload[DIGESTS_HEAD.size :]
    if len(frame.payload) < DIGESTS_HEAD.size or len(digests) % DIGEST_BYTES:
        raise ProtocolBroken("The other side sent digests of an impossible length")
    number, first_grain = DIGESTS_HEAD.unpack_from(frame.payload)
    return number, first_grain, digests


def run_payload(first_grain: int, compressed: Sequence[Data]) -> list[Data]:
    """Return the parts of a RESTORE_RUN payload: its head, and the joined lengths and grains.

    BLAKE3 takes half as long for one long piece as for many short ones.
    """
    lengths = struct.pack(f">{len(compressed)}I", *map(len, compressed))
    body = b"".join((lengths, *compressed))
    return [RUN_HEAD.pack(first_grain, len(compressed), _run_digest(first_grain, body)), body]


def split_run(frame: Frame) -> tuple[int, list[memoryview]]:
    """Return the first grain and the compressed grains of a RESTORE_RUN frame.

    Raises:
        ProtocolBroken: the frame is cut or too long, or its lengths or digest are wrong.
    """
    if len(frame.payload) < RUN_HEAD.size:
        raise ProtocolBroken("The other side sent a run of grains without its head")
    first_grain, count, digest = RUN_HEAD.unpack_from(frame.payload)
    data_start = RUN_HEAD.size + count * _RUN_LENGTH_BYTES
    if not 1 <= count <= MAX_RUN_GRAINS or len(frame.payload) < data_start:
        raise ProtocolBroken(f"The other side sent a run of {count} grains that is cut or too long")
    lengths = frame.payload[RUN_HEAD.size : data_start]
    grains = []
    position = data_start
    for length_bytes in struct.unpack(f">{count}I", lengths):
        grains.append(frame.payload[position : position + length_bytes])
        position += length_bytes
    if position != len(frame.payload):
        raise ProtocolBroken(
            f"The grains of a run should take {position - data_start} bytes by their lengths, but "
            f"{len(frame.payload) - data_start} arrived"
        )
    if _run_digest(first_grain, frame.payload[RUN_HEAD.size :]) != digest:
        raise ProtocolBroken(
            f"The run of {count} grains from grain {first_grain} is damaged: its digest differs"
        )
    return first_grain, grains


def _run_digest(first_grain: int, body: Data) -> bytes:
    return blake3(first_grain.to_bytes(8, "big")).update(body).digest()


def get_flag(message: Message, name: str) -> bool:
    """Return the flag `name` of a message; a missing flag is false."""
    value = message.get(name, False)
    if not isinstance(value, bool):
        raise ProtocolBroken(f"Reading {message.get('type')!r}: {name} is neither true nor false")
    return value


def get_int(message: Message, name: str, lowest: int, highest: int) -> int:
    """Return the integer `name` of a message after checking its limits."""
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise ProtocolBroken(
            f"Reading {message.get('type')!r}: {name} is {str(value)[:40]!r}, "
            f"expected a number from {lowest} to {highest}"
        )
    return value


def get_text(message: Message, name: str, longest: int = 1024) -> str:
    """Return the text `name` of a message after checking its limit."""
    value = message.get(name)
    if not isinstance(value, str) or len(value) > longest or not is_plain_text(value):
        raise ProtocolBroken(
            f"Reading {message.get('type')!r}: {name} is missing, not text, or longer than "
            f"{longest} characters"
        )
    return value


def is_plain_text(text: str) -> bool:
    """Tell whether a text can be stored: PostgreSQL rejects NUL, and UTF-8 rejects surrogates."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def grain_count(capacity_bytes: int) -> int:
    """Return the number of grains on a disk; the last one may be partial."""
    return -(-capacity_bytes // GRAIN_BYTES)
