"""The service: listens, pairs, and answers trusted cores.

Protecting or restoring a machine is the duty's work.
"""

from __future__ import annotations

import logging
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from agent.announcing import MAX_ADDRESSES, Announcer
from agent.configuration import Configuration
from agent.delegation import MAX_NUMBER, find_delegation
from agent.duty import Answer, Duty
from agent.errors import (
    AgentBusy,
    AgentError,
    AgentRefusedCore,
    ConfigurationWrong,
    CoreGone,
    ProtocolBroken,
    RequestRefused,
)
from agent.home import Home, read_home
from agent.machine import announced_addresses, boot_id, describe_machine
from agent.pairing import Pairing
from agent.proof import NONCE_BYTES, SALT_BYTES, Exchange, Side, code_key
from agent.protecting import ProtectDuty
from agent.protocol import PROTOCOL_VERSION, Channel, Message, get_int, get_text
from agent.rescue.console import RescueConsole
from agent.rescue.duty import RescueDuty
from agent.state import AgentState, TrustedCore, now_text
from agent.strangers import Strangers
from agent.tls import (
    MAX_CERTIFICATE_CHARACTERS,
    agent_context,
    check_certificate,
    ensure_identity,
    fingerprint_of_der,
)
from agent.version import VERSION

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 32  # of trusted cores
_HANDSHAKE_SECONDS = 20
_UNPAIRED_SILENCE_SECONDS = 20
_SILENCE_SECONDS = 120
_DRAIN_SECONDS = 10
_MAX_NAME_CHARACTERS = 200
# Memory is locked during a freeze, and so would be a default stack of 8 MiB for each thread.
_THREAD_STACK_BYTES = 512 * 1024


class _Known(NamedTuple):
    """What is needed to answer a connection, read from the state folder at one moment."""

    context: ssl.SSLContext
    cores: dict[str, TrustedCore]  # by fingerprint
    least_delegations: dict[str, int]  # by the issuing core's fingerprint
    description: Message = {}


class Service:
    """One agent. `serve` runs until `stop` is called from another thread or a signal handler.

    consoles: where a rescue machine shows its code in addition to standard output.
    homes: cores to announce this machine to in addition to those that it trusts.
    """

    def __init__(
        self,
        configuration: Configuration,
        consoles: Sequence[Path] = (),
        homes: Sequence[Home] = (),
    ) -> None:
        self._state = AgentState(configuration.state_folder)
        self._certificate_path, self._key_path = ensure_identity(
            configuration.state_folder, socket.gethostname()
        )
        self._certificate_der = ssl.PEM_cert_to_DER_cert(self._certificate_path.read_text())
        self._fingerprint = fingerprint_of_der(self._certificate_der)
        self._pairing = Pairing(self._state, configuration.pairing_code)
        self._known: _Known | None = None  # while file systems are frozen
        self._console = RescueConsole(consoles, self._pairing, self._fingerprint)
        self.duty: Duty = (
            RescueDuty(configuration, self._state, self._console)
            if configuration.mode == "restore"
            else ProtectDuty(configuration, self)
        )
        self._announcer = Announcer(
            self._certificate_path,
            self._key_path,
            lambda: [*homes, *self._state.homes()],
            self._announcement,
        )
        self._strangers = Strangers()
        self._connections = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._is_stopping = False
        threading.stack_size(_THREAD_STACK_BYTES)
        self._listener = _listen(configuration.address, configuration.port)
        self.port: int = self._listener.getsockname()[1]

    def serve(self) -> None:
        """Answer connections, each in its own thread."""
        self.duty.start()
        if self.duty.mode == "restore":
            self._console.start(self.port)
        else:
            self._announcer.start()
        code = self._pairing.find_code()
        log.info(
            "agent serves port=%d mode=%s fingerprint=%s pairing=%s",
            self.port,
            self.duty.mode,
            self._fingerprint,
            "open" if code else "closed",
        )
        while not self._is_stopping:
            try:
                connection, address = self._listener.accept()
            except OSError as error:
                if self._is_stopping:
                    return
                log.warning("accept failed error=%s", error)
                time.sleep(0.2)  # out of descriptors, until connections end
                continue
            threading.Thread(
                target=self._handle, args=(connection, address[0]), name="connection", daemon=True
            ).start()

    def stop(self) -> None:
        """Stop accepting; `serve` returns."""
        self._is_stopping = True
        # close() alone would leave accept() blocked.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._announcer.stop()
        self._console.stop()
        self.duty.stop()

    def _handle(self, connection: socket.socket, peer: str) -> None:
        try:
            _keep_alive(connection)
            connection.settimeout(_HANDSHAKE_SECONDS)
            known = self._known or self._read_known()
            with known.context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            ) as tls_socket:
                self._strangers.admit(tls_socket)
                try:
                    tls_socket.do_handshake()
                    self._converse(tls_socket, peer, known)
                finally:
                    self._strangers.leave(tls_socket)
        except (AgentError, OSError) as error:
            log.info("connection ended peer=%s reason=%s", peer, error)
        finally:
            connection.close()

    def _read_known(self) -> _Known:
        cores = self._state.trusted_cores()
        context = agent_context(
            self._certificate_path, self._key_path, (core.certificate_pem for core in cores)
        )
        by_fingerprint = {core.fingerprint: core for core in cores}
        return _Known(context, by_fingerprint, self._state.least_delegations())

    def _converse(self, tls_socket: ssl.SSLSocket, peer: str, known: _Known) -> None:
        certificate_der = tls_socket.getpeercert(binary_form=True)
        core = self._find_core(tls_socket, certificate_der, known) if certificate_der else None
        if core is None:
            self._greet(tls_socket, peer, None)
            return
        self._strangers.leave(tls_socket)
        if not self._connections.acquire(blocking=False):
            log.warning("connection refused peer=%s core=%s reason=too-many", peer, core.name)
            return
        try:
            self._greet(tls_socket, peer, core)
        finally:
            self._connections.release()

    def _greet(self, tls_socket: ssl.SSLSocket, peer: str, core: TrustedCore | None) -> None:
        """Tell a caller whether it is trusted, and answer what it asks."""
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

    def _find_core(
        self, tls_socket: ssl.SSLSocket, certificate_der: bytes, known: _Known
    ) -> TrustedCore | None:
        """Return the core that has shown its own certificate, or a delegation that counts."""
        fingerprint = fingerprint_of_der(certificate_der)
        if fingerprint in known.cores:
            return known.cores[fingerprint]
        delegation = find_delegation(tls_socket.getpeercert() or {})
        if delegation is None or delegation.agent_fingerprint != self._fingerprint:
            return None
        for issuer, issuer_der in zip(
            known.context.get_ca_certs(), known.context.get_ca_certs(binary_form=True)
        ):
            least = known.least_delegations.get(fingerprint_of_der(issuer_der), 1)
            if issuer["subject"] == delegation.issuer and delegation.number >= least:
                certificate_pem = ssl.DER_cert_to_PEM_cert(certificate_der)
                return TrustedCore(delegation.core_name, fingerprint, certificate_pem, now_text())
        return None

    def answers(self) -> dict[str, Answer]:
        """Return the requests that a trusted core may make."""
        return {
            "describe": self._describe,
            "trust": self._trust,
            "withdraw_delegations": self._withdraw_delegations,
            **self.duty.answers(),
        }

    def describe(self) -> Message:
        """Return the description of this machine, with the fields listed in `docs/agent.md`."""
        known = self._known
        if known is not None:
            return known.description
        return {
            **describe_machine(),
            "mode": self.duty.mode,
            **self.duty.describe(),
            "trusted_cores": [
                {"name": core.name, "fingerprint": core.fingerprint}
                for core in self._state.trusted_cores()
            ],
            "agent": {"version": VERSION, "port": self.port},
        }

    def _announcement(self) -> Message | None:
        """Return what tells a core where this machine is; None while file systems are frozen."""
        if not self._is_frozen:
            return {
                "boot_id": boot_id(),
                "port": self.port,
                "addresses": announced_addresses()[:MAX_ADDRESSES],
            }
        return None

    def freeze_answers(self) -> None:
        """Answer from memory from now on; pairing and trusting have to wait."""
        self._known = self._read_known()._replace(description=self.describe())

    def thaw_answers(self) -> None:
        """Return to normal answering."""
        self._known = None

    def pair(self, channel: Channel, message: Message) -> None:
        """Let a core prove that it knows the code, trust it, and prove the same to it.

        Raises:
            AgentBusy: file systems are frozen.
            WrongPairingCode: the proof is wrong; the try is counted.
            PairingClosed: pairing is not open.
        """
        self._check_not_frozen()
        core_name = get_text(message, "core_name", _MAX_NAME_CHARACTERS)
        core_pem = check_certificate(
            get_text(message, "core_certificate_pem", MAX_CERTIFICATE_CHARACTERS)
        )
        core_nonce = _nonce(message)
        code = self._pairing.get_code()
        salt, agent_nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
        channel.send_control(
            {"type": "pair_challenge", "salt": salt.hex(), "nonce": agent_nonce.hex()}
        )
        answer = channel.receive_control("pair_proof")
        self._pairing.count_try(code)
        key = code_key(code, salt)
        core_der = ssl.PEM_cert_to_DER_cert(core_pem)
        exchange = Exchange(core_der, self._certificate_der, core_nonce, agent_nonce)
        if not exchange.is_proof(get_text(answer, "proof"), Side.CORE, key):
            raise self._pairing.refuse()
        self._state.ensure_trusted_core(core_name, core_pem)
        self._remember_home(channel, core_pem, message)
        self._pairing.use_up()
        channel.send_control(
            {
                "type": "paired",
                "proof": exchange.proof(Side.AGENT, key),
                "description": self.describe(),
            }
        )

    def _describe(self, channel: Channel, core: TrustedCore, message: Message) -> None:
        if not self._is_frozen:
            self._remember_home(channel, core.certificate_pem, message)
        channel.send_control({"type": "description", "description": self.describe()})

    def _remember_home(self, channel: Channel, core_pem: str, message: Message) -> None:
        home = read_home(message, core_pem, channel.peer_host)
        if home is not None:
            self._state.remember_home(home)

    def _trust(self, channel: Channel, _core: TrustedCore, message: Message) -> None:
        """Trust another core. Raises `AgentBusy` while file systems are frozen."""
        self._check_not_frozen()
        core = self._state.ensure_trusted_core(
            get_text(message, "core_name", _MAX_NAME_CHARACTERS),
            check_certificate(
                get_text(message, "core_certificate_pem", MAX_CERTIFICATE_CHARACTERS)
            ),
        )
        self._remember_home(channel, core.certificate_pem, message)
        log.info("core trusted name=%s fingerprint=%s", core.name, core.fingerprint)
        channel.send_control({"type": "trusted"})

    def _withdraw_delegations(self, channel: Channel, core: TrustedCore, message: Message) -> None:
        """Let no delegation of the calling core count whose number is lower than `below`."""
        self._check_not_frozen()
        self._state.withdraw_delegations(core.fingerprint, get_int(message, "below", 1, MAX_NUMBER))
        channel.send_control({"type": "delegations_withdrawn"})

    @property
    def _is_frozen(self) -> bool:
        """Whether file systems are frozen, so that nothing can be written."""
        return self._known is not None

    def _check_not_frozen(self) -> None:
        if self._is_frozen:
            raise AgentBusy(
                "The machine is held frozen after a final point: nothing can be changed on it now"
            )


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
        """Answer one request; False if the conversation is over."""
        message = self._channel.receive_control()
        log.info("request type=%.40s peer=%s core=%s", message["type"], self._peer, self._name())
        try:
            self._answer(message)
        except CoreGone:
            raise
        except AgentError as error:
            log.warning("request failed code=%s text=%s", error.code, error)
            self._channel.send_control({"type": "error", "code": error.code, "text": str(error)})
            # After a broken stream, the next frame could be anything.
            self._channel.drain(_DRAIN_SECONDS)
            return False
        return True

    def _answer(self, message: Message) -> None:
        kind = message["type"]
        if kind == "pair":
            self._service.pair(self._channel, message)
            return
        if self._core is None:
            raise AgentRefusedCore(
                "The agent answers only cores it is paired with. Pair this core first."
            )
        answer = self._service.answers().get(kind)
        if answer is None:
            raise RequestRefused(
                f"The agent does not know the request {kind[:40]!r} in mode "
                f"{self._service.duty.mode!r}"
            )
        answer(self._channel, self._core, message)

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
    """Notice within a minute that the peer's machine is gone, even if nothing is being sent."""
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
        raise ProtocolBroken(f"A nonce must be {NONCE_BYTES} bytes in hex")
    return nonce
