"""Sends one disk to the host that a lease names: one POST of exactly the announced length."""

import contextlib
import hashlib
import http.client
import socket
import ssl
import threading
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from vsphere.errors import StreamLengthWrong, UploadCut, UploadRefused, VSphereUnreachable
from vsphere.spec import Chunks, DiskUpload

MEDIA_TYPE = "application/x-vnd.vmware-streamVmdk"
CONNECT_SECONDS = 30
SEND_SECONDS = 300  # for one piece; the host may stop reading while it writes
LAST_ANSWER_SECONDS = 900  # the host may write down what it holds before it answers
LATE_ANSWER_SECONDS = 5
SEND_BUFFER_BYTES = 4 << 20


class Stopped(Exception):
    """Another part of the import has failed, or it was cancelled; that one's error counts."""


class _SourceFailed(Exception):
    """Reading the stream failed; the cause is what the reader raised."""


@dataclass
class Sender:
    """The upload of one disk, in a thread of its own."""

    url: str
    context: ssl.SSLContext
    upload: DiskUpload
    stop: threading.Event
    sent_bytes: int = 0
    sha1: str = ""
    error: BaseException | None = None
    _connection: http.client.HTTPSConnection | None = field(default=None, repr=False)

    @property
    def doing(self) -> str:
        """Return what texts call this."""
        return f"Upload disk {self.upload.number} to {urlsplit(self.url).hostname}"

    def run(self) -> None:
        """Send all of it; what goes wrong is kept in `error`."""
        try:
            self._send()
        except _SourceFailed as failed:
            self.error = failed.__cause__
        except BaseException as error:  # handed to the thread that waits for this one
            self.error = error
        finally:
            self._close()

    def interrupt(self) -> None:
        """Have a send that hangs return at once."""
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _send(self) -> None:
        parts = urlsplit(self.url)
        connection = http.client.HTTPSConnection(
            parts.hostname or "",
            parts.port or 443,
            timeout=CONNECT_SECONDS,
            context=self.context,
            blocksize=1 << 20,
        )
        self._connection = connection
        try:
            connection.connect()
        except OSError as error:
            raise VSphereUnreachable(
                f"{self.doing}: no connection to {parts.hostname}:{parts.port or 443} ({error}). "
                "The host's own address must be reachable from here, not only the vCenter's."
            ) from error
        connection.sock.settimeout(SEND_SECONDS)
        with contextlib.suppress(OSError):
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        digest = hashlib.sha1(usedforsecurity=False)
        try:
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.putrequest("POST", path, skip_accept_encoding=True)
            connection.putheader("Content-Type", MEDIA_TYPE)
            connection.putheader("Content-Length", str(self.upload.length_bytes))
            connection.endheaders()
            self._send_body(connection, digest)
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(connection, error) from error
        self._read_answer(connection)
        self.sha1 = digest.hexdigest()

    def _send_body(self, connection: http.client.HTTPSConnection, digest: "hashlib._Hash") -> None:
        length_bytes = self.upload.length_bytes
        for chunk in self._chunks():
            if self.stop.is_set():
                raise Stopped
            if self.sent_bytes + len(chunk) > length_bytes:
                raise self._wrong_length("more")
            connection.send(chunk)
            digest.update(chunk)
            self.sent_bytes += len(chunk)
        if self.sent_bytes != length_bytes:
            raise self._wrong_length("fewer")

    def _chunks(self) -> Chunks:
        """Yield the stream; its errors must not look like those of the connection."""
        try:
            yield from self.upload.read_chunks()
        except Exception as error:
            raise _SourceFailed from error

    def _wrong_length(self, how: str) -> StreamLengthWrong:
        return StreamLengthWrong(
            f"{self.doing}: the recovery point gave {how} than the announced "
            f"{self.upload.length_bytes:,} bytes. Check the recovery point before you try again."
        )

    def _broken(self, connection: http.client.HTTPSConnection, error: Exception) -> Exception:
        """Return what the host said before it closed the connection, else that it did."""
        if self.stop.is_set():
            return Stopped()
        with contextlib.suppress(OSError, http.client.HTTPException):
            if connection.sock is not None:
                connection.sock.settimeout(LATE_ANSWER_SECONDS)
                connection._HTTPConnection__state = "Request-sent"  # type: ignore[attr-defined]
                answer = connection.getresponse()
                return self._refused(answer)
        return UploadCut(
            f"{self.doing}: the connection broke after {self.sent_bytes:,} of "
            f"{self.upload.length_bytes:,} bytes ({error or type(error).__name__}). A part is not "
            "kept; try again."
        )

    def _read_answer(self, connection: http.client.HTTPSConnection) -> None:
        connection.sock.settimeout(LAST_ANSWER_SECONDS)
        try:
            answer = connection.getresponse()
            if answer.status not in (http.client.OK, http.client.CREATED):
                raise self._refused(answer)
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            if self.stop.is_set():
                raise Stopped from error
            raise UploadCut(
                f"{self.doing}: all {self.sent_bytes:,} bytes were sent, and the host did not "
                f"confirm them ({error or type(error).__name__}). Try again."
            ) from error

    def _refused(self, answer: http.client.HTTPResponse) -> UploadRefused:
        said = answer.read(500).decode(errors="replace").strip().splitlines()
        refused = UploadRefused(
            f"{self.doing}: the host answered {answer.status} {answer.reason}"
            f"{': ' + said[0] if said else ''}. Check the recovery point and the host; try again."
        )
        refused.status = answer.status
        return refused
