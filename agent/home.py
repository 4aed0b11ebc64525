"""Where a machine calls home: the cores to which its agent announces itself when it starts.

A core says where it can be reached whenever it speaks to the agent; the state folder keeps that,
and thus every recovery point does. What else names cores, such as a settings disk that a core
attaches to a new VM, adds to these with `Home` objects of its own (see `Service`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.errors import ProtocolBroken
from agent.protocol import Message, get_int, get_text

MAX_HOST_CHARACTERS = 253
_HOST = re.compile(r"[0-9A-Za-z_.:%-]*")
_MACHINE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Home:
    """A core's interface, as the machine reaches it.

    certificate_pem: what the core has to show there.
    machine_id: by which that core knows this machine.
    """

    host: str
    port: int
    certificate_pem: str
    machine_id: str

    def to_json(self) -> Message:
        """Return it as a core tells it; which core it is, the connection shows."""
        return {"host": self.host, "port": self.port, "machine_id": self.machine_id}


def read_home(message: Message, certificate_pem: str, caller_host: str) -> Home | None:
    """Return where a request says that a core is; none if it says nothing.

    caller_host: stands for a host that the core left empty, since it does not know it itself.

    Raises:
        ProtocolBroken: it is not an address, or names no machine.
    """
    told = message.get("home")
    if told is None:
        return None
    if not isinstance(told, dict):
        raise ProtocolBroken("The address of a core must be an object")
    host = get_text(told, "host", MAX_HOST_CHARACTERS) or caller_host
    machine_id = get_text(told, "machine_id", 36)
    if not _HOST.fullmatch(host) or not _MACHINE_ID.fullmatch(machine_id):
        raise ProtocolBroken("The address of a core is none, or the machine's ID is not a UUID")
    return Home(host, get_int(told, "port", 1, 65535), certificate_pem, machine_id)
