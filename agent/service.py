"""The service: listens, lets in paired cores, answers them, and takes one point at a time."""

from __future__ import annotations

import logging
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from agent.configuration import Configuration
from agent.errors import (
    AgentBusy,
    AgentError,
    AgentRefusedCore,
    ConfigurationWrong,
    CoreGone,
    ProtocolBroken,
    RequestRefused,
)
from agent.machine import InitramfsDrivers, describe_machine
from agent.pairing import NONCE_BYTES, Pairing, code_key, proof
from agent.protocol import (
    MAX_CAPACITY_BYTES,
    MAX_DISKS,
    PROTOCOL_VERSION,
    Channel,
    Message,
    get_int,
    get_text,
)
from agent.providers import Provider
from agent.providers.choice import choose_provider
from agent.state import AgentState, TrustedCore, now_text
from agent.stream import ParentDisk, description_of, send_view
from agent.tls import (
    MAX_CERTIFICATE_CHARACTERS,
    agent_context,
    check_certificate,
    ensure_identity,
    fingerprint_of_der,
)

log = logging.getLogger(__name__)

VERSION = "1.0"
MAX_CONNECTIONS = 32
_HANDSHAKE_SECONDS = 20
_UNPAIRED_SILENCE_SECONDS = 20
_SILENCE_SECONDS = 120
_MAX_NAME_CHARACTERS = 200
# Memory is locked around a freeze; default stacks of 8 MiB for each thread would be locked too.
_THREAD_STACK_BYTES = 512 * 1024


class Service:
    """One agent. `serve` runs until `stop` is called from another thread or a signal handler."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._state = AgentState(configuration.state_folder)
        self._certificate_path, self._key_path = ensure_identity(
            configuration.state_folder, socket.gethostname()
        )
        self._certificate_der = ssl.PEM_cert_to_DER_cert(self._certificate_path.read_text())
        self._pairing = Pairing(self._state, configuration.pairing_code)
        self._initramfs = InitramfsDrivers(configuration.state_folder)
        self._provider: Provider = choose_provider(configuration)
        self._snapshot_lock = threading.Lock()
        self._snapshot_of = ""
        self._connections = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._is_stopping = False
        threading.stack_size(_THREAD_STACK_BYTES)
        self._listener = _listen(configuration.address, configuration.port)
        self.port: int = self._listener.getsockname()[1]

    def serve(self) -> None:
        """Answer connections, each in a thread of its own."""
        self._initramfs.start()
        code = self._pairing.find_code()
        log.info(
            "agent serves port=%d provider=%s fingerprint=%s pairing=%s",
            self.port,
            self._provider.name,
            fingerprint_of_der(self._certificate_der),
            "open" if code else "closed",
        )
        while not self._is_stopping:
            try:
                connection, address = self._listener.accept()
            except OSError as error:
                if self._is_stopping:
                    return
                log.warning("accept failed error=%s", error)
                time.sleep(0.2)  # out of descriptors: the connections that hold them will end
                continue
            if not self._connections.acquire(blocking=False):
                log.warning("connection refused peer=%s reason=too-many", address[0])
                connection.close()
                continue
            threading.Thread(
                target=self._handle, args=(connection, address[0]), name="connection", daemon=True
            ).start()

    def stop(self) -> None:
        """Stop accepting; `serve` returns."""
        self._is_stopping = True
        # close() alone leaves accept() waiting.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _handle(self, connection: socket.socket, peer: str) -> None:
        try:
            _keep_alive(connection)
            connection.settimeout(_HANDSHAKE_SECONDS)
            cores = self._state.trusted_cores()
            context = agent_context(
                self._certificate_path, self._key_path, (core.certificate_pem for core in cores)
            )
            with context.wrap_socket(connection, server_side=True) as tls_socket:
                self._converse(tls_socket, peer)
        except (AgentError, OSError) as error:
            log.info("connection ended peer=%s reason=%s", peer, error)
        finally:
            connection.close()
            self._connections.release()

    def _converse(self, tls_socket: ssl.SSLSocket, peer: str) -> None:
        certificate_der = tls_socket.getpeercert(binary_form=True)
        core = (
            self._state.find_trusted_core(fingerprint_of_der(certificate_der))
            if certificate_der
            else None
        )
        silence_seconds = _SILENCE_SECONDS if core else _UNPAIRED_SILENCE_SECONDS
        channel = Channel(tls_socket, silence_seconds, CoreGone)
        channel.send_control(
            {
                "type": "hello",
                "protocol": PROTOCOL_VERSION,
                "version": VERSION,
                "is_trusted": core is not None,
            }
        )
        conversation = _Conversation(self, channel, core, peer)
        while conversation.answer_next():
            pass

    def describe(self) -> Message:
        """Return the description of this machine, as `docs/agent.md` lists it."""
        return {
            **describe_machine(),
            "disks": [description_of(disk) for disk in self._provider.disks()],
            "initramfs_drivers": self._initramfs.get(),
            "snapshot_provider": self._provider.name,
            "trusted_cores": [
                {"name": core.name, "fingerprint": core.fingerprint}
                for core in self._state.trusted_cores()
            ],
            "agent": {"version": VERSION, "port": self.port},
        }

    def pair(self, channel: Channel, message: Message) -> None:
        """Let a core prove that it knows the code, prove the same, and trust it.

        Raises:
            WrongPairingCode: its proof does not fit; the try is counted.
            PairingClosed: no code is open.
        """
        core_name = get_text(message, "core_name", _MAX_NAME_CHARACTERS)
        core_pem = check_certificate(
            get_text(message, "core_certificate_pem", MAX_CERTIFICATE_CHARACTERS)
        )
        core_nonce = _nonce(message)
        code = self._pairing.get_code()
        salt, agent_nonce = secrets.token_bytes(16), secrets.token_bytes(NONCE_BYTES)
        channel.send_control(
            {"type": "pair_challenge", "salt": salt.hex(), "nonce": agent_nonce.hex()}
        )
        answer = channel.receive_control("pair_proof")
        self._pairing.count_try(code)
        key = code_key(code, salt)
        sides = (ssl.PEM_cert_to_DER_cert(core_pem), self._certificate_der, core_nonce, agent_nonce)
        expected = proof(key, b"core", *sides)
        if not secrets.compare_digest(get_text(answer, "proof").encode(), expected.encode()):
            raise self._pairing.refuse()
        self._state.ensure_trusted_core(core_name, core_pem)
        self._pairing.use_up()
        channel.send_control(
            {
                "type": "paired",
                "proof": proof(key, b"agent", *sides),
                "description": self.describe(),
            }
        )

    def trust(self, message: Message) -> None:
        """Trust another core too."""
        core = self._state.ensure_trusted_core(
            get_text(message, "core_name", _MAX_NAME_CHARACTERS),
            check_certificate(
                get_text(message, "core_certificate_pem", MAX_CERTIFICATE_CHARACTERS)
            ),
        )
        log.info("core trusted name=%s fingerprint=%s", core.name, core.fingerprint)

    def take_snapshot(self, channel: Channel, core: TrustedCore, message: Message) -> None:
        """Take a view of all disks, stream it, release it.

        Raises:
            AgentBusy: another point is being taken.
            SnapshotFailed: there is no consistent view, or it did not hold.
        """
        parents = _parent_disks(message)
        with self._only_snapshot(core):
            started_at = time.monotonic()
            description = self.describe()
            with self._provider.open_view() as view:
                channel.send_control(
                    {
                        "type": "snapshot_taken",
                        "description": description,
                        "consistency": view.consistency,
                    }
                )
                send_view(channel, view, parents)
            # After the release: the core must never see a point done whose view was lost.
            channel.send_control({"type": "snapshot_done"})
            log.info(
                "snapshot done core=%s disks=%d sent_bytes=%d seconds=%.1f",
                core.name,
                len(description["disks"]),
                channel.sent_bytes,
                time.monotonic() - started_at,
            )

    @contextmanager
    def _only_snapshot(self, core: TrustedCore) -> Iterator[None]:
        if not self._snapshot_lock.acquire(blocking=False):
            raise AgentBusy(
                f"Taking a recovery point: the agent is taking another one for "
                f"{self._snapshot_of}. Try again when that is done."
            )
        try:
            self._snapshot_of = f"core {core.name!r}, since {now_text()}"
            yield
        finally:
            self._snapshot_lock.release()


class _Conversation:
    """The requests of one connection, in turn."""

    def __init__(
        self, service: Service, channel: Channel, core: TrustedCore | None, peer: str
    ) -> None:
        self._service = service
        self._channel = channel
        self._core = core
        self._peer = peer

    def answer_next(self) -> bool:
        """Answer one request; False when the conversation is over."""
        message = self._channel.receive_control()
        log.info("request type=%.40s peer=%s core=%s", message["type"], self._peer, self._name())
        try:
            self._answer(message)
        except CoreGone:
            raise
        except AgentError as error:
            log.warning("request failed code=%s text=%s", error.code, error)
            self._channel.send_control({"type": "error", "code": error.code, "text": str(error)})
            # After a broken stream nobody knows which frame comes next.
            return False
        return True

    def _answer(self, message: Message) -> None:
        answers: dict[str, Callable[[Message], None]] = {"pair": self._pair}
        if self._core is not None:
            answers.update(
                describe=self._describe, trust=self._trust, take_snapshot=self._take_snapshot
            )
        answer = answers.get(message["type"], self._refuse)
        answer(message)

    def _pair(self, message: Message) -> None:
        self._service.pair(self._channel, message)

    def _describe(self, _message: Message) -> None:
        self._channel.send_control({"type": "description", "description": self._service.describe()})

    def _trust(self, message: Message) -> None:
        self._service.trust(message)
        self._channel.send_control({"type": "trusted"})

    def _take_snapshot(self, message: Message) -> None:
        if self._core is not None:
            self._service.take_snapshot(self._channel, self._core, message)

    def _refuse(self, message: Message) -> NoReturn:
        if self._core is None:
            raise AgentRefusedCore(
                "The agent answers only cores it is paired with. Pair this core first."
            )
        raise RequestRefused(f"The agent does not know the request {message['type'][:40]!r}")

    def _name(self) -> str:
        return self._core.name if self._core else "-"


def _listen(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise ConfigurationWrong(f"Listening on {address}:{port}: {error.strerror}") from error
    return listener


def _keep_alive(connection: socket.socket) -> None:
    """Notice within a minute that a peer's machine is gone, also when nothing is being sent."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def _nonce(message: Message) -> bytes:
    try:
        nonce = bytes.fromhex(get_text(message, "nonce"))
    except ValueError:
        nonce = b""
    if len(nonce) != NONCE_BYTES:
        raise ProtocolBroken(f"A nonce needs {NONCE_BYTES} bytes in hex")
    return nonce


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
