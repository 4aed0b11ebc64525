"""What carries a guest's connections to a core: as the guest's own, and both ways to their ends."""

import socket
import subprocess
import sys
import threading
from pathlib import Path

import lab.relay


def test_a_guest_is_seen_at_its_own_address_and_gets_the_whole_answer() -> None:
    seen: list[tuple[str, bytes]] = []
    answer = b"answer" * 100_000

    def serve() -> None:
        connection, caller = core.accept()
        with connection:
            asked = b""
            while part := connection.recv(65536):
                asked += part
            seen.append((caller[0], asked))
            connection.sendall(answer)

    guest, inner = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as core, guest:
        thread = threading.Thread(target=serve)
        thread.start()
        port = core.getsockname()[1]
        with inner:
            relay = subprocess.Popen(
                [sys.executable, "-I", str(Path(lab.relay.__file__)), "127.0.2.77", str(port)],
                stdin=inner,
                stdout=inner,
            )
        guest.sendall(b"question")
        guest.shutdown(socket.SHUT_WR)
        got = b""
        while part := guest.recv(65536):
            got += part
        thread.join(30)
    assert relay.wait(30) == 0
    assert seen == [("127.0.2.77", b"question")]
    assert got == answer
