"""The one-time codes of this core: made, and proven by the core that calls to pair.

The proof is that of agents; see agent/proof.py. The two messages of a caller may reach different
processes, so what they need is in the database.
"""

import datetime
import logging
import ssl
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from agent.proof import NONCE_BYTES, SALT_BYTES, Exchange, Side, code_key, make_code
from console.identity import this_core
from replication.errors import PairingCodeRefused
from replication.models import PairingCode
from replication.peers import wire
from replication.peers.credentials import seal, unseal

logger = logging.getLogger(__name__)

VALID_MINUTES = 15
# All a caller is told, whatever the reason, so that nobody learns whether a code is open.
_REFUSAL = (
    "The other core does not accept this pairing code: it is wrong, has expired, was used, was "
    "tried too often, or was replaced by a newer one. On that core, Settings shows which. Make a "
    "new one there."
)


@dataclass(frozen=True)
class ProvenCaller:
    """A core that has proven a code, and what the answer needs of the code."""

    code: PairingCode
    key: bytes
    exchange: Exchange


def make_pairing_code(made_by: str, minutes: int = VALID_MINUTES) -> str:
    """Return a new code; older ones no longer count."""
    now = timezone.now()
    text = make_code()
    with transaction.atomic():
        PairingCode.objects.exclude(sealed_key="").update(sealed_key="")
        code = PairingCode.objects.create(
            made_by=made_by, made_at=now, expires_at=now + datetime.timedelta(minutes=minutes)
        )
        salt, _ = _salt_and_nonce(code)
        code.sealed_key = seal(code_key(text, salt).hex())
        code.save(update_fields=["sealed_key"])
    logger.info("pairing code made code_id=%s by=%s minutes=%s", code.pk, made_by, minutes)
    return text


def challenge() -> wire.PairingChallenge:
    """Return what a caller needs to prove the newest code; looks the same if none was made."""
    salt, nonce = _salt_and_nonce(PairingCode.objects.find_newest())
    return wire.PairingChallenge(salt=salt.hex(), nonce=nonce.hex())


def check_proof(asked: wire.PairingRequest) -> ProvenCaller:
    """Return the proven caller.

    Raises:
        PairingCodeRefused: the proof is wrong, or no code is open to this caller.
    """
    code = PairingCode.objects.find_newest()
    if code is None or not code.count_try(asked.caller, timezone.now()):
        logger.warning("pairing refused name=%s reason=no open code", asked.name)
        raise PairingCodeRefused(_REFUSAL)
    _, nonce = _salt_and_nonce(code)
    key = bytes.fromhex(unseal(code.sealed_key))
    exchange = Exchange(
        ssl.PEM_cert_to_DER_cert(asked.certificate_pem),
        ssl.PEM_cert_to_DER_cert(this_core().certificate_pem),
        bytes.fromhex(asked.nonce),
        nonce,
    )
    if not exchange.is_proof(asked.proof, Side.CALLING_CORE, key):
        logger.warning("pairing refused name=%s reason=wrong proof code_id=%s", asked.name, code.pk)
        raise PairingCodeRefused(_REFUSAL)
    return ProvenCaller(code, key, exchange)


def use_up(caller: ProvenCaller, asked: wire.PairingRequest) -> None:
    """Note that the caller has used the code.

    Raises:
        PairingCodeRefused: another core was faster.
    """
    if not caller.code.use_up(asked.caller, asked.name, timezone.now()):
        logger.warning("pairing refused name=%s reason=code just used", asked.name)
        raise PairingCodeRefused(_REFUSAL)


def _salt_and_nonce(code: PairingCode | None) -> tuple[bytes, bytes]:
    """Return salt and nonce of a code; nobody without this core's secret key can foresee them.

    A code needs only one nonce, since it is used only once.
    """
    number = "" if code is None else str(code.pk)
    derived = salted_hmac("replication pairing code", number, algorithm="sha512").digest()
    return derived[:SALT_BYTES], derived[SALT_BYTES : SALT_BYTES + NONCE_BYTES]
