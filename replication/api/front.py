"""Meet callers before gunicorn's threads do: TLS, the head of a request, and who it is from.

Each thread of gunicorn serves one connection, and waits for whatever that connection does not
send. Here one asyncio loop waits for all of them. A request reaches a thread once it shows the
secret of a pairing, or once all of it has arrived: a stranger's is small, or goes without its body.

This only saves threads and memory. Who may call is decided by `gate`, for each request.
"""

import asyncio
import logging
import re
import resource
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from agent.strangers import Strangers
from replication.api.caller import CallerSocket

logger = logging.getLogger(__name__)
# Takes the inner end of a connection, and the address of the caller.
Admit = Callable[[socket.socket, tuple[str, int]], None]
IsKnown = Callable[[str], bool]
# The newest context: callers may show the certificates that it knows, or none.
Tls = Callable[[], ssl.SSLContext]

HEAD_LIMIT_BYTES = 8 * 1024
# A request to pair is the largest that a stranger may send.
STRANGER_BODY_LIMIT_BYTES = 8 * 1024
# As long as an agent waits: a caller on a busy computer or a slow line needs more than a moment.
HANDSHAKE_SECONDS = 20
# For the head, and a stranger's body.
REQUEST_SECONDS = 10
# A stranger's answer, and the rest of what it sends meanwhile.
ANSWER_SECONDS = 60
# Of a paired core: between two parts of a body, or of an answer that it reads.
STALLED_SECONDS = 60
MAX_STRANGERS = 4000
_PART_BYTES = 256 * 1024
_HEADER = re.compile(rb"\r\n(authorization|content-length):[ \t]*([^\r\n]*)", re.IGNORECASE)


class Front:
    """Serves the listening sockets from a thread of its own until `stop`."""

    def __init__(self, tls: Tls, is_known: IsKnown, admit: Admit) -> None:
        self._tls = tls
        self._is_known = is_known
        self._admit = admit
        self._loop = asyncio.new_event_loop()
        self._listening: list[asyncio.Task[None]] = []
        self._callers: set[asyncio.Task[None]] = set()
        self._lookups = ThreadPoolExecutor(2, thread_name_prefix="front-lookup")
        self._strangers = Strangers(min(MAX_STRANGERS, _allow_more_files() // 4))
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="front")

    def start(self, listeners: list[socket.socket]) -> None:
        """Begin to accept."""
        for listener in listeners:
            listener.setblocking(False)
            task = self._loop.create_task(self._accept(listener))
            self._listening.append(task)
        self._thread.start()

    def stop(self) -> None:
        """Accept nobody any more; what has been admitted goes on until the process ends."""
        for task in self._listening:
            self._loop.call_soon_threadsafe(task.cancel)
        self._listening = []

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, address = await self._loop.sock_accept(listener)
            except OSError as error:
                # No file is free, or the caller is gone already.
                logger.warning("core interface cannot accept reason=%s", error)
                await asyncio.sleep(0.1)
                continue
            self._strangers.admit(connection)
            caller = self._loop.create_task(self._serve(connection, address[:2]))
            self._callers.add(caller)
            caller.add_done_callback(self._callers.discard)

    async def _serve(self, connection: socket.socket, address: tuple[str, int]) -> None:
        reader = asyncio.StreamReader(limit=_PART_BYTES)
        writer: asyncio.StreamWriter | None = None
        try:
            transport, protocol = await self._loop.connect_accepted_socket(
                lambda: asyncio.StreamReaderProtocol(reader),
                connection,
                ssl=self._tls(),
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
            )
            writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
            await self._serve_request(connection, address, reader, writer)
        except (OSError, EOFError, ValueError, TimeoutError, asyncio.LimitOverrunError):
            # Callers that come and go are no news; a flood of them would fill the log.
            logger.debug("core interface dropped caller=%s", address[0], exc_info=True)
        finally:
            self._strangers.leave(connection)
            if writer is not None:
                writer.transport.abort()
            else:
                connection.close()

    async def _serve_request(
        self,
        connection: socket.socket,
        address: tuple[str, int],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        async with asyncio.timeout(REQUEST_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            if len(head) > HEAD_LIMIT_BYTES:
                return
            headers = {name.lower(): value for name, value in _HEADER.findall(head)}
            secret = headers.get(b"authorization", b"").decode("latin-1")
            is_known = bool(secret) and await self._loop.run_in_executor(
                self._lookups, self._is_known, secret
            )
            if not is_known:
                body_bytes = int(headers.get(b"content-length", b"0"))
                if 0 < body_bytes <= STRANGER_BODY_LIMIT_BYTES:
                    head += await reader.readexactly(body_bytes)
                head = _as_only_request(head)
        if is_known:
            self._strangers.leave(connection)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True) or b""
        inner_reader, inner_writer = await self._let_in(address, shown)
        try:
            inner_writer.write(head)
            upwards = asyncio.create_task(
                _pass_on(reader, inner_writer) if is_known else _end(inner_writer, reader)
            )
            try:
                # A paired core may wait long for an answer: a commit reads a whole base image.
                async with asyncio.timeout(None if is_known else ANSWER_SECONDS):
                    await _pass_on(inner_reader, writer)
                    writer.close()
                    await writer.wait_closed()
            finally:
                upwards.cancel()
                with suppress(asyncio.CancelledError, OSError, TimeoutError):
                    await upwards
        finally:
            inner_writer.transport.abort()

    async def _let_in(
        self, address: tuple[str, int], certificate_der: bytes
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        inner, outer = socket.socketpair()
        # Even a paired core may not hold a thread for ever.
        limit = struct.pack("@ll", STALLED_SECONDS, 0)
        inner.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        inner.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        streams = await asyncio.open_connection(sock=outer, limit=_PART_BYTES)
        self._admit(CallerSocket.taking(inner, certificate_der), address)
        return streams


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on all that comes, until the end."""
    while part := await reader.read(_PART_BYTES):
        writer.write(part)
        await writer.drain()


async def _end(inner_writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> None:
    """End a stranger's request; drop what it still sends, so that it gets to read the answer."""
    inner_writer.write_eof()
    while await reader.read(_PART_BYTES):
        pass


def _as_only_request(head: bytes) -> bytes:
    """Have the answer say that the connection ends, before the caller sends another request."""
    line, rest = head.split(b"\r\n", 1)
    return b"\r\n".join((line, b"Connection: close", rest))


def _allow_more_files() -> int:
    """Raise the limit of open files as far as this process may; return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 65536) if hard != resource.RLIM_INFINITY else 65536
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
