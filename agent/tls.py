"""The certificates of agent and cores: made with the `openssl` command, pinned, never expiring.

There is no certificate authority. Each side knows the other's certificate from the pairing, so the
certificate itself is the trust anchor. Validity dates are ignored, since a machine that has just
been started elsewhere may have a wrong clock.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import subprocess
from collections.abc import Iterable
from pathlib import Path

from agent.errors import ConfigurationWrong, ProtocolBroken

MAX_CERTIFICATE_CHARACTERS = 16 * 1024
_OPENSSL_SECONDS = 60
# OpenSSL's X509_V_FLAG_PARTIAL_CHAIN, which the ssl module names only since Python 3.10.
_PARTIAL_CHAIN = 0x80000
_NO_CHECK_TIME = 0x200000


def ensure_identity(folder: Path, hostname: str) -> tuple[Path, Path]:
    """Return the paths of the agent's certificate and key; make both on first use.

    Raises:
        ConfigurationWrong: `openssl` is missing or failed.
    """
    certificate_path, key_path = folder / "agent.pem", folder / "agent.key"
    if certificate_path.exists():
        return certificate_path, key_path
    new_certificate, new_key = folder / ".agent.pem.new", folder / ".agent.key.new"
    new_key.touch(mode=0o600)
    _run_openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-days", "10950", "-subj", f"/CN=understudy-agent-{_common_name(hostname)}"),
        *("-keyout", str(new_key), "-out", str(new_certificate)),
    )
    sync_path(new_key)
    sync_path(new_certificate)
    new_key.rename(key_path)
    sync_path(folder)
    new_certificate.rename(certificate_path)  # last: the identity exists once this does
    sync_path(folder)
    return certificate_path, key_path


def sync_path(path: Path) -> None:
    """Flush a file's content, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _common_name(hostname: str) -> str:
    allowed = [letter for letter in hostname if letter.isalnum() or letter in "-."]
    return "".join(allowed)[:40] or "unnamed"


def _run_openssl(*arguments: str) -> None:
    command = ["openssl", *arguments]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_OPENSSL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationWrong(f"Making the agent's certificate: {error}") from error
    if done.returncode:
        text = done.stdout.decode(errors="replace").strip()[-500:]
        raise ConfigurationWrong(
            f"Making the agent's certificate: openssl ended with {done.returncode}: {text}"
        )


def fingerprint_of_der(certificate_der: bytes) -> str:
    """Return the SHA-256 of a certificate in lower-case hex."""
    return hashlib.sha256(certificate_der).hexdigest()


def fingerprint_of(certificate_pem: str) -> str:
    """Return the SHA-256 of a PEM certificate's DER form in lower-case hex."""
    return fingerprint_of_der(ssl.PEM_cert_to_DER_cert(certificate_pem))


def check_certificate(certificate_pem: str) -> str:
    """Return the certificate in its normal form.

    Raises:
        ProtocolBroken: the text is not exactly one certificate.
    """
    try:
        normal = ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(certificate_pem.strip()))
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=normal)
    except (ValueError, ssl.SSLError) as error:
        raise ProtocolBroken(f"A core's certificate cannot be read: {error}") from error
    return normal


def agent_context(
    certificate_path: Path, key_path: Path, core_certificates_pem: Iterable[str]
) -> ssl.SSLContext:
    """Return the context of the listening side, which accepts only those cores.

    A client may connect without a certificate, because pairing starts that way; the service limits
    what it may request. A client with an unknown certificate fails in the handshake.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate_path, key_path)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags = ssl.VerifyFlags(_PARTIAL_CHAIN | _NO_CHECK_TIME)
    context.num_tickets = 0  # a resumed session would skip the certificate check
    anchors = "".join(core_certificates_pem)
    if anchors:
        context.load_verify_locations(cadata=anchors)
    return context


def core_context(certificate_path: Path | None, key_path: Path | None) -> ssl.SSLContext:
    """Return the context of the calling side.

    It does not check a chain. The caller compares the agent's certificate with the pinned one, byte
    for byte, before it sends anything.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificate_path is not None:
        context.load_cert_chain(certificate_path, key_path)
    return context
