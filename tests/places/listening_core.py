"""A core's interface as an agent that announces its machine sees it."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from agent.home import Home
from agent.tls import agent_context, fingerprint_of_der
from tests.places.agent import Core

MACHINE_ID = "6d6f0a4e-2b53-4a5e-9d0b-6a6c1c1f3f77"


@dataclass
class ListeningCore:
    """What it heard: the fingerprint of the caller's certificate, and what the caller said."""

    core: Core
    port: int = 0
    status: int = 200
    heard: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    calls: int = 0
    is_called: threading.Event = field(default_factory=threading.Event)

    @property
    def home(self) -> Home:
        return Home("127.0.0.1", self.port, self.core.certificate_pem, MACHINE_ID)


@contextmanager
def listening_core(core: Core, agent_certificate: Path) -> Iterator[ListeningCore]:
    """Listen with a core's certificate, for one agent."""
    listening = ListeningCore(core)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert isinstance(self.connection, ssl.SSLSocket)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if listening.status == 200:
                shown = fingerprint_of_der(self.connection.getpeercert(binary_form=True) or b"")
                listening.heard.append((shown, json.loads(body)))
            self.send_response(listening.status)
            self.end_headers()
            listening.calls += 1
            listening.is_called.set()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Be silent about callers that hang up after the handshake."""

    credentials = core.credentials
    context = agent_context(
        credentials.certificate_path, credentials.key_path, [agent_certificate.read_text()]
    )
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        listening.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield listening
        finally:
            server.shutdown()
            thread.join()
