"""A core's connection to an agent: TLS, the agent's certificate, and its greeting."""

from __future__ import annotations

import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.errors import (
    AgentError,
    AgentGone,
    AgentRefusedCore,
    AgentUnreachable,
    ProtocolBroken,
    error_from_wire,
)
from agent.protocol import PROTOCOL_VERSION, Channel, Frame, Message, control_message, get_text
from agent.reasons import reason_of
from agent.tls import core_context

_MAX_ERROR_CHARACTERS = 4000


@dataclass(frozen=True)
class CoreCredentials:
    """The certificate that a core presents to its agents, and its key."""

    certificate_path: Path
    key_path: Path

    @contextmanager
    def delegated(self, delegation_pem: str) -> Iterator[CoreCredentials]:
        """Lend credentials that show a delegation in place of this core's own certificate."""
        with tempfile.NamedTemporaryFile("w", prefix="delegation-", suffix=".pem") as file:
            file.write(delegation_pem)
            file.flush()
            yield CoreCredentials(Path(file.name), self.key_path)


@contextmanager
def connected(
    host: str,
    port: int,
    credentials: CoreCredentials | None,
    timeout_seconds: float,
    check_certificate: Callable[[bytes], None] | None = None,
) -> Iterator[tuple[Channel, bytes]]:
    """Connect, check the agent's certificate, and read its greeting."""
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
            f"Connecting to the agent at {host}:{port}: {reason_of(error)}. Check that the machine "
            "and its understudy-agent service are running, and that no firewall is in the way."
        ) from error


def _greet(channel: Channel, host: str, port: int, has_certificate: bool) -> None:
    """Read the agent's greeting. It comes first, so a refusal arrives before anything is sent."""
    try:
        greeting = channel.receive_control("hello")
    except AgentGone as error:
        alert = error.__cause__
        if isinstance(alert, ssl.SSLError) and "alert" in (alert.reason or "").lower():
            raise AgentRefusedCore(
                f"Connecting to the agent at {host}:{port}: it does not know this core's "
                f"certificate ({alert.reason}). Pair this core with it, or let a core that is "
                "already paired tell the agent to trust this one."
            ) from error
        raise AgentUnreachable(
            f"Connecting to the agent at {host}:{port}: it closed the connection without a "
            f"greeting. {error}"
        ) from error
    except ProtocolBroken as error:
        raise AgentUnreachable(
            f"Connecting to {host}:{port}: what answers there is not an agent. {error}"
        ) from error
    if greeting.get("protocol") != PROTOCOL_VERSION:
        raise AgentUnreachable(
            f"Connecting to the agent at {host}:{port}: it speaks protocol "
            f"{str(greeting.get('protocol'))[:20]}, but this core speaks {PROTOCOL_VERSION}. "
            "Install the agent of this core's release."
        )
    if has_certificate and greeting.get("is_trusted") is not True:
        raise AgentRefusedCore(
            f"Connecting to the agent at {host}:{port}: it no longer trusts this core."
        )


def receive_message(channel: Channel, *types: str) -> Message:
    """Wait for a message of one of those types; raise the error if the agent reports one."""
    return checked_message(channel.receive(), *types)


def checked_message(frame: Frame, *types: str) -> Message:
    """Return a frame's message, which must be of one of those types if any are given.

    Raises:
        AgentError: the message reports this error.
        ProtocolBroken: the message has another type.
    """
    message = control_message(frame)
    if message["type"] == "error":
        raise _reported_error(message)
    if types and message["type"] not in types:
        raise ProtocolBroken(
            f"Waiting for {' or '.join(types)}: the agent sent {message['type'][:40]!r}"
        )
    return message


def _reported_error(message: Message) -> AgentError:
    # The text may contain a machine's file names. No character in them may make it unreadable.
    text = str(message.get("text", "")).encode(errors="replace").decode().replace("\0", "?")
    return error_from_wire(get_text(message, "code", 100), text[:_MAX_ERROR_CHARACTERS])
