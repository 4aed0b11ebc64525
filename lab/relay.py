"""Carry one connection from a guest to a core. QEMU starts it for each connection.

The connection is standard input and output. It goes on from the guest's own address on this
computer, as it would in a real network: so the core sees where the guest is.
"""

import selectors
import socket
import sys

_PART_BYTES = 64 * 1024


def relay(guest: socket.socket, core: socket.socket) -> None:
    """Pass on what comes from either side until both have ended."""
    with selectors.DefaultSelector() as waiting:
        for source, sink in ((guest, core), (core, guest)):
            waiting.register(source, selectors.EVENT_READ, sink)
        while waiting.get_map():
            for key, _ in waiting.select():
                source, sink = key.fileobj, key.data
                assert isinstance(source, socket.socket)
                if part := source.recv(_PART_BYTES):
                    sink.sendall(part)
                else:
                    waiting.unregister(source)
                    sink.shutdown(socket.SHUT_WR)


def main() -> None:
    guest_address, core_port = sys.argv[1:]
    with (
        socket.socket(fileno=0) as guest,
        socket.create_connection(
            ("127.0.0.1", int(core_port)), timeout=10, source_address=(guest_address, 0)
        ) as core,
    ):
        core.settimeout(None)
        relay(guest, core)


if __name__ == "__main__":
    main()
