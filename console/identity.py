"""Who this core is to its agents and to other cores: its ID, its name and its certificate.

The identity is a folder of files, not rows, because it must exist before the database does and must
not change when the database is replaced.
"""

import datetime
import json
import tempfile
import uuid
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.conf import settings


@dataclass(frozen=True)
class CoreIdentity:
    """A core as others know it. `fingerprint` is the certificate's SHA-256 in lower-case hex."""

    id: str
    name: str
    certificate_path: Path
    key_path: Path
    certificate_pem: str
    fingerprint: str


def fingerprint_of(certificate_pem: str) -> str:
    """Return the SHA-256 of a PEM certificate's DER form, in lower-case hex without colons."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    return certificate.fingerprint(hashes.SHA256()).hex()


def this_core() -> CoreIdentity:
    """Return this core's identity; the first call creates it.

    Atomic: two processes that start together get the same identity.
    """
    folder = settings.UNDERSTUDY_HOME / "identity"
    if not folder.exists():
        _make_identity(folder)
    written_ns = (folder / "core.pem").stat().st_mtime_ns
    return _read_identity(folder, settings.UNDERSTUDY_CORE_NAME, written_ns)


@lru_cache(maxsize=8)
def _read_identity(folder: Path, name: str, written_ns: int) -> CoreIdentity:
    """Read the identity once: pages ask for it with every machine that they show."""
    certificate_pem = (folder / "core.pem").read_text()
    return CoreIdentity(
        id=json.loads((folder / "core.json").read_text())["id"],
        name=name,
        certificate_path=folder / "core.pem",
        key_path=folder / "core.key",
        certificate_pem=certificate_pem,
        fingerprint=fingerprint_of(certificate_pem),
    )


def _make_identity(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".identity-", dir=folder.parent))
    core_id = str(uuid.uuid4())
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"understudy-core-{core_id}")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * 30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (temporary / "core.json").write_text(json.dumps({"id": core_id}))
    (temporary / "core.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path = temporary / "core.key"
    key_path.touch(mode=0o600)
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    try:
        temporary.rename(folder)
    except OSError:
        # Another process was faster; its identity counts.
        for path in temporary.iterdir():
            path.unlink()
        temporary.rmdir()
