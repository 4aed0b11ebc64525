"""Ports that nobody else listens on."""

import random
import socket
from pathlib import Path

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10_000
# Not the generator that tests share: its seed is the same in every worker of a run.
_random = random.SystemRandom()


def free_port(address: str = "127.0.0.1") -> int:
    """Return a TCP port that nobody listens on now.

    It is none of those that the kernel gives to connections, or one that another test opens in the
    meantime might take it.
    """
    first_ephemeral = int(_EPHEMERAL.read_text().split()[0])
    while True:
        port = _random.randrange(_LOWEST, first_ephemeral)
        with socket.socket() as listener:
            try:
                listener.bind((address, port))
            except OSError:
                continue
        return port
