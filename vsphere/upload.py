"""Uploads the disks of an import, each with one POST of exactly the announced length."""

import contextlib
import hashlib
import http.client
import socket
import ssl
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from agent.reasons import reason_of
from vsphere.errors import StreamLengthWrong, UploadCut, UploadRefused, VSphereUnreachable
from vsphere.spec import DiskUpload
from vsphere.stub import USER_AGENT

MEDIA_TYPE = "application/x-vnd.vmware-streamVmdk"
CONNECT_SECONDS = 30
SEND_SECONDS = 300  # for one chunk; the host may pause reading while it writes
LAST_ANSWER_SECONDS = 900  # the host may flush its buffers before it answers
LATE_ANSWER_SECONDS = 5
JOIN_SECONDS = 30
SEND_BUFFER_BYTES = 4 << 20
UPLOADS_PER_HOST = 2  # more only share what a host can write


class Stopped(Exception):
    """The upload was stopped because the import failed elsewhere or was cancelled."""


class UploadLine(Protocol):
    """The uploads to each host, in the order in which they came; the first two may send.

    It is asked in the importing thread.
    """

    def ahead(self, host: str, upload: str) -> int:
        """Return how many uploads to the host came before, and take or keep the place.

        A place is lost if this is not called for a minute.
        """

    def leave(self, host: str, upload: str) -> None:
        """Give the place up."""


class OwnLine:
    """The line of those who share this object, without anyone to lose."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}

    def ahead(self, host: str, upload: str) -> int:
        """Return how many uploads came before."""
        line = self._lines.setdefault(host, [])
        if upload not in line:
            line.append(upload)
        return line.index(upload)

    def leave(self, host: str, upload: str) -> None:
        """Give the place up."""
        line = self._lines.get(host, [])
        if upload in line:
            line.remove(upload)


@dataclass(eq=False)
class Sender:
    """The upload of one disk."""

    url: str
    context: ssl.SSLContext
    upload: DiskUpload
    sent_bytes: int = 0
    sha1: str = ""
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _connection: http.client.HTTPSConnection | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """Return the name of the host that it goes to."""
        return urlsplit(self.url).hostname or ""

    @property
    def doing(self) -> str:
        """Return the upload's name for messages."""
        return f"Upload disk {self.upload.number} to {self.host}"

    def send(self) -> None:
        """Send the whole disk. Errors of the stream's reader pass through unchanged.

        Raises:
            VSphereUnreachable, UploadCut, UploadRefused: the host or the connection failed.
            StreamLengthWrong: the stream does not have the announced length.
            Stopped: `stop` was called.
        """
        with contextlib.closing(self._connect()) as connection:
            with self._talking(connection):
                self._send_head(connection)
            self._send_body(connection)
            self._read_answer(connection)

    def stop(self) -> None:
        """End `send` early, even if the host has stopped reading."""
        self._stop.set()
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _connect(self) -> http.client.HTTPSConnection:
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port or 443
        connection = http.client.HTTPSConnection(
            host, port, timeout=CONNECT_SECONDS, context=self.context, blocksize=1 << 20
        )
        try:
            connection.connect()
        except OSError as error:
            raise VSphereUnreachable(
                f"{self.doing}: no connection to {host}:{port} ({reason_of(error)}). "
                "Understudy must be able to reach the host's own address, not only the vCenter."
            ) from error
        connection.sock.settimeout(SEND_SECONDS)
        with contextlib.suppress(OSError):
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._connection = connection
        return connection

    def _send_head(self, connection: http.client.HTTPSConnection) -> None:
        parts = urlsplit(self.url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.putrequest("POST", path, skip_accept_encoding=True)
        connection.putheader("Content-Type", MEDIA_TYPE)
        connection.putheader("User-Agent", USER_AGENT)
        connection.putheader("Content-Length", str(self.upload.length_bytes))
        connection.endheaders()

    def _send_body(self, connection: http.client.HTTPSConnection) -> None:
        digest = hashlib.sha1(usedforsecurity=False)
        length_bytes = self.upload.length_bytes
        for chunk in self.upload.read_chunks():
            if self._stop.is_set():
                raise Stopped
            if self.sent_bytes + len(chunk) > length_bytes:
                raise self._wrong_length("more")
            with self._talking(connection):
                connection.send(chunk)
            digest.update(chunk)
            self.sent_bytes += len(chunk)
        if self.sent_bytes != length_bytes:
            raise self._wrong_length("fewer")
        self.sha1 = digest.hexdigest()

    def _wrong_length(self, how: str) -> StreamLengthWrong:
        return StreamLengthWrong(
            f"{self.doing}: the recovery point gave {how} than the announced "
            f"{self.upload.length_bytes:,} bytes. Check the recovery point before trying again."
        )

    @contextlib.contextmanager
    def _talking(self, connection: http.client.HTTPSConnection) -> Iterator[None]:
        """Translate errors of the connection. The stream is read outside of this block."""
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(connection, error) from error

    def _broken(self, connection: http.client.HTTPSConnection, error: Exception) -> Exception:
        """Return the host's answer if it gave one before closing, else UploadCut."""
        if self._stop.is_set():
            return Stopped()
        with contextlib.suppress(OSError, http.client.HTTPException):
            if connection.sock is not None:
                connection.sock.settimeout(LATE_ANSWER_SECONDS)
                return self._refused(connection.getresponse())
        return UploadCut(
            f"{self.doing}: the connection broke after {self.sent_bytes:,} of "
            f"{self.upload.length_bytes:,} bytes ({reason_of(error)}). Partial "
            "uploads are not kept. Try again."
        )

    def _read_answer(self, connection: http.client.HTTPSConnection) -> None:
        connection.sock.settimeout(LAST_ANSWER_SECONDS)
        try:
            answer = connection.getresponse()
            if answer.status not in (http.client.OK, http.client.CREATED):
                raise self._refused(answer)
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            if self._stop.is_set():
                raise Stopped from error
            raise UploadCut(
                f"{self.doing}: all {self.sent_bytes:,} bytes were sent, but the host did not "
                f"confirm them ({reason_of(error)}). Try again."
            ) from error

    def _refused(self, answer: http.client.HTTPResponse) -> UploadRefused:
        said = answer.read(500).decode(errors="replace").strip().splitlines()
        refused = UploadRefused(
            f"{self.doing}: the host answered {answer.status} {answer.reason}"
            f"{': ' + said[0] if said else ''}. Check the recovery point and the host, "
            "then try again."
        )
        refused.status = answer.status
        return refused


@dataclass(eq=False)
class Uploads:
    """The uploads of one import. They begin when it is their turn at the host."""

    senders: Sequence[Sender]
    line: UploadLine
    futures: list[Future[None]] = field(default_factory=list)
    _waiting: list[Sender] = field(default_factory=list)
    _names: dict[Sender, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(len(self.senders), thread_name_prefix="upload")
        self._waiting = list(self.senders)
        # Of this attempt: one before may still stand in line.
        self._names = {sender: uuid.uuid4().hex for sender in self.senders}
        self._sending: dict[Sender, Future[None]] = {}

    def advance(self) -> None:
        """Begin what has its turn, and keep the places of the rest. Call it about once a second."""
        for sender, future in list(self._sending.items()):
            if future.done():
                del self._sending[sender]
                self.line.leave(sender.host, self._names[sender])
            else:
                self.line.ahead(sender.host, self._names[sender])
        for sender in list(self._waiting):
            if self.line.ahead(sender.host, self._names[sender]) < UPLOADS_PER_HOST:
                self._waiting.remove(sender)
                self._sending[sender] = future = self._pool.submit(sender.send)
                self.futures.append(future)

    @property
    def is_over(self) -> bool:
        return not self._waiting and all(future.done() for future in self.futures)

    @property
    def has_ended_one(self) -> bool:
        """Tell whether an upload has ended whose place is still taken."""
        return any(future.done() for future in self._sending.values())

    @property
    def awaited_host(self) -> str:
        """Return the host at which all that is left waits in line; empty if anything is sent."""
        return self._waiting[0].host if self._waiting and not self._sending else ""

    def stop(self) -> None:
        """End all uploads; none reads its stream after that, unless the reading itself hangs."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for sender in self.senders:
            sender.stop()
        # `wait` does not count a future as done if it was cancelled before it began.
        wait([future for future in self.futures if not future.cancelled()], timeout=JOIN_SECONDS)
        for sender in (*self._waiting, *self._sending):
            self.line.leave(sender.host, self._names[sender])


@contextlib.contextmanager
def running(senders: Sequence[Sender], line: UploadLine) -> Iterator[Uploads]:
    """Send the disks within a `with` block; at its end all uploads stop."""
    uploads = Uploads(senders, line)
    try:
        yield uploads
    finally:
        uploads.stop()
