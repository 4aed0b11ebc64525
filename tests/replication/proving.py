"""What a core says to pair by a code, made up without that core."""

import secrets
import ssl
import uuid
from typing import Any

from agent.proof import NONCE_BYTES, Exchange, Side, code_key
from console.identity import this_core
from replication.peers import wire


def pairing_request(
    code: str, challenge: wire.PairingChallenge, listener_pem: str, **changes: Any
) -> wire.PairingRequest:
    """A valid request to pair of a core that knows the code; by default, of this core."""
    core = this_core()
    said = {"core_id": uuid.UUID(core.id), "certificate_pem": core.certificate_pem, **changes}
    exchange = Exchange(
        ssl.PEM_cert_to_DER_cert(said["certificate_pem"]),
        ssl.PEM_cert_to_DER_cert(listener_pem),
        secrets.token_bytes(NONCE_BYTES),
        bytes.fromhex(challenge.nonce),
    )
    key = code_key(code, bytes.fromhex(challenge.salt))
    return wire.PairingRequest(
        pairing_id=uuid.uuid4(),
        name="Headquarters",
        host="192.0.2.1",
        port=8001,
        secret="what the called core presents",
        nonce=exchange.caller_nonce.hex(),
        proof=exchange.proof(Side.CALLING_CORE, key),
        **said,
    )
