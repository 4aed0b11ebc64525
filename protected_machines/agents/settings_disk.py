"""The settings disk that this core adds to a VM; agent/settings_disk.py says what it is for.

It is signed with this core's key. The machine's agent believes it if it trusts this core, or a core
that has delegated the machine to this one, whose delegation is on the disk.
"""

import json
from collections.abc import Sequence

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.home import Home
from agent.settings import MAX_DELEGATIONS
from agent.settings_disk import make_settings_disk
from console.identity import CoreIdentity, fingerprint_of, this_core
from protected_machines.models import Machine


def settings_disk_of(machine: Machine, home: Home) -> bytes:
    """Return a disk that tells the machine's agent where this core is."""
    newest_first = machine.delegations.order_by("-pk").values_list("certificate_pem", flat=True)
    return signed_settings(
        this_core(),
        fingerprint_of(machine.agent_certificate_pem),
        [home],
        list(newest_first[:MAX_DELEGATIONS]),
    )


def signed_settings(
    core: CoreIdentity, agent_fingerprint: str, homes: Sequence[Home], delegations: Sequence[str]
) -> bytes:
    """Return a settings disk for that agent, signed by `core`.

    homes: one machine's, by one ID.
    """
    document = json.dumps(
        {
            "type": "settings",
            "machine_id": homes[0].machine_id,
            "agent_fingerprint": agent_fingerprint,
            "cores": [
                {"certificate_pem": home.certificate_pem, "host": home.host, "port": home.port}
                for home in homes
            ],
            "delegations": list(delegations),
        }
    ).encode()
    key = serialization.load_pem_private_key(core.key_path.read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return make_settings_disk(document, key.sign(document, ec.ECDSA(hashes.SHA256())))
