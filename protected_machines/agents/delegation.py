"""Delegations as cores make and check them; agent/delegation.py says what one is.

A core that protects a machine delegates it to each core that it replicates the machine to. The
target core keeps the delegation and shows it to the agent of any recovery point.
"""

import datetime
import uuid
from collections.abc import Iterable

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.delegation import delegation_name, find_name
from console.identity import CoreIdentity, fingerprint_of, this_core
from protected_machines.agents.connection import dial
from protected_machines.errors import DelegationWrong
from protected_machines.models import Delegation, Machine
from protected_machines.ownership import check_owner

_VALID_DAYS = (
    365 * 30
)  # agents read no dates: the clock of a machine started elsewhere may be wrong
_MAX_NAME_CHARACTERS = 64  # of an organization in X.509


def delegate_machine(machine: Machine, certificate_pem: str, core_name: str) -> str:
    """Return this core's delegation of a machine to the core with that certificate, as PEM."""
    agent_fingerprint = fingerprint_of(machine.agent_certificate_pem)
    name = delegation_name(agent_fingerprint, machine.delegation_number)
    return issue_delegation(this_core(), certificate_pem, core_name, name)


def issue_delegation(issuer: CoreIdentity, certificate_pem: str, core_name: str, name: str) -> str:
    """Return a certificate by `issuer` that lets another core's key stand for `name`, as PEM."""
    issuing = x509.load_pem_x509_certificate(issuer.certificate_pem.encode())
    key = serialization.load_pem_private_key(issuer.key_path.read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    other = x509.load_pem_x509_certificate(certificate_pem.encode())
    shown_name = core_name[:_MAX_NAME_CHARACTERS] or "unnamed core"
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, shown_name)]))
        .issuer_name(issuing.subject)
        .public_key(other.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name)]), critical=True
        )
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def keep_delegation(machine: Machine, delegation_pem: str, issuer_pem: str) -> None:
    """Keep what a machine's owner has delegated to this core; one of each issuer, the newest.

    Raises:
        DelegationWrong: it is not by that core, not to this core, or not of this machine.
    """
    number = check_delegation(
        delegation_pem, issuer_pem, this_core().certificate_pem, machine.agent_certificate_pem
    )
    kept, is_new = Delegation.objects.get_or_create(
        machine=machine,
        issuer_fingerprint=fingerprint_of(issuer_pem),
        defaults={"number": number, "certificate_pem": delegation_pem},
    )
    if not is_new and kept.number < number:
        kept.number, kept.certificate_pem = number, delegation_pem
        kept.save(update_fields=["number", "certificate_pem"])


def issuers_of(machine_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, list[str]]:
    """Return the fingerprints of the cores that delegated each of the machines to this core."""
    ids = list(machine_ids)
    found: dict[uuid.UUID, list[str]] = {machine_id: [] for machine_id in ids}
    kept = Delegation.objects.filter(machine__in=ids).order_by("pk")
    for machine_id, fingerprint in kept.values_list("machine_id", "issuer_fingerprint"):
        found[machine_id].append(fingerprint)
    return found


def check_delegation(delegation_pem: str, issuer_pem: str, core_pem: str, agent_pem: str) -> int:
    """Return a delegation's number.

    Raises:
        DelegationWrong: it is not issuer's, not for that core's key, or not of that agent.
    """
    core = x509.load_pem_x509_certificate(core_pem.encode())
    try:
        delegation = x509.load_pem_x509_certificate(delegation_pem.encode())
        delegation.verify_directly_issued_by(x509.load_pem_x509_certificate(issuer_pem.encode()))
        names = delegation.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = [
            find_name(uri) for uri in names.get_values_for_type(x509.UniformResourceIdentifier)
        ]
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as error:
        raise DelegationWrong(
            f"The delegation was not signed by the machine's owner ({error or 'wrong signature'})."
        ) from error
    numbers = [named[1] for named in found if named and named[0] == fingerprint_of(agent_pem)]
    if not numbers or _key_of(delegation) != _key_of(core):
        raise DelegationWrong(
            "The delegation is for another core or another machine. Remove the pairing and pair "
            "the cores again if either was reinstalled."
        )
    return numbers[0]


def _key_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def withdraw_delegations(machine: Machine) -> int:
    """Have the agent reject what this core has delegated so far; return the number of the next.

    The agent is told first: a number that it never learnt of would withdraw nothing.

    Raises:
        NotTheOwner: another core owns the machine.
        AgentError: the agent did not confirm it, so nothing has changed here.
    """
    check_owner(machine)
    number = machine.delegation_number + 1
    dial(machine).withdraw_delegations(number)
    Machine.objects.filter(pk=machine.pk, delegation_number__lt=number).update(
        delegation_number=number
    )
    return number
