"""An agent that says what a test tells it to, made of the real protocol."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.client import AgentClient
from agent.errors import AgentError, CoreGone
from agent.protocol import PROTOCOL_VERSION, Channel
from agent.tls import agent_context, ensure_identity
from tests.places.agent import Core

Script = Callable[[Channel], None]
KEY = "disk"
CAPACITY_BYTES = 1024 * 1024
HELLO = {"type": "hello", "protocol": PROTOCOL_VERSION, "version": "1.0", "is_trusted": True}
TAKEN = {"type": "snapshot_taken", "description": {}, "consistency": "file_system"}
BEGIN = {
    "type": "begin_disk",
    "number": 0,
    "key": KEY,
    "capacity_bytes": CAPACITY_BYTES,
    "cid": "12345678",
    "has_parent": False,
}


@contextmanager
def hostile_agent(folder: Path, core: Core, script: Script) -> Iterator[AgentClient]:
    """Answer one connection by `script`, and yield a client that trusts this agent."""
    with answering_once(folder, core, script) as port:
        certificate_pem = (folder / "agent.pem").read_text()
        yield AgentClient("127.0.0.1", port, core.credentials, certificate_pem, 30)


@contextmanager
def answering_once(folder: Path, core: Core, script: Script) -> Iterator[int]:
    """Answer one connection by `script`, and yield the port."""
    certificate_path, key_path = ensure_identity(folder, "hostile")
    context = agent_context(certificate_path, key_path, [core.certificate_pem])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)

        def answer() -> None:
            connection, _ = listener.accept()
            connection.settimeout(30)
            # The client hangs up when it has had enough.
            with (
                contextlib.suppress(AgentError, OSError),
                context.wrap_socket(connection, server_side=True) as tls_socket,
            ):
                script(Channel(tls_socket, 30, CoreGone))

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(30)
        assert not thread.is_alive()
