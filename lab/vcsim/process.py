"""Starts and stops one vSphere simulator: what the lab and every test that needs a vSphere share.

The binary is built once per state of its sources, into `.cache/` in the root of the checkout.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rescue_medium.commands import run_command

SOURCES = Path(__file__).resolve().parent
CACHE = SOURCES.parent.parent / ".cache" / "vcsim"
BUILD_SECONDS = 600


def ensure_binary() -> Path:
    """Return the binary, built now if its sources have changed. Safe to call concurrently."""
    digest = hashlib.sha256()
    for source in sorted([*SOURCES.glob("*.go"), SOURCES / "build.sh"]):
        digest.update(source.read_bytes())
    binary = CACHE / f"vcsim-{digest.hexdigest()[:16]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            run_command(SOURCES / "build.sh", binary, limit_seconds=BUILD_SECONDS)
            for old in CACHE.glob("vcsim-*"):
                if old != binary:
                    with contextlib.suppress(OSError):
                        old.unlink()
    return binary


def write_certificate(folder: Path, name: str = "vcsim.lab") -> tuple[Path, Path]:
    """Write a self-signed certificate and its key into `folder`; return both paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    certificate_path, key_path = folder / "certificate.pem", folder / "key.pem"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.touch(mode=0o600)
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_path, key_path


@dataclass
class Vcsim:
    """A running simulator."""

    host: str
    port: int
    username: str
    password: str
    password_file: Path
    thumbprint: str  # SHA-256
    certificate_path: Path
    uploads: Path
    process: subprocess.Popen[bytes]

    def faults(self, **settings: Any) -> dict[str, Any]:
        """Set what goes wrong from now on; see `faults.go` for the names."""
        return self._admin("POST", settings)

    @contextlib.contextmanager
    def unreadable(self, *moids: str) -> Iterator[None]:
        """Have the user see objects, but not read them, in a `with` block."""
        self.faults(unreadable=moids)
        try:
            yield
        finally:
            self.no_faults()

    def no_faults(self) -> None:
        """Stop all faults."""
        self._admin("DELETE", None)

    def served(self) -> dict[str, Any]:
        """Return what clients have asked for; see `served.go` for the names."""
        return self._admin("GET", None, "served")

    def disk_path(self, vm_moid: str, number: int) -> Path:
        """Return where the uploaded disk of a machine is kept."""
        return self.uploads / vm_moid / f"disk-{number}.vmdk"

    def is_running(self) -> bool:
        """Tell whether the process is running."""
        return self.process.poll() is None

    def stop(self) -> None:
        """End the process, by force if necessary."""
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(timeout=10)

    def _admin(
        self, method: str, body: dict[str, Any] | None, what: str = "faults"
    ) -> dict[str, Any]:
        context = ssl.create_default_context(cafile=str(self.certificate_path))
        request = urllib.request.Request(
            f"https://{self.host}:{self.port}/lab/{what}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
        )
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        with opener.open(request, timeout=30) as answer:
            shown: dict[str, Any] = json.load(answer)
            return shown


def start_vcsim(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    username: str = "administrator@vsphere.local",
    password: str | None = None,
    certificate: tuple[Path, Path] | None = None,
    ready_seconds: float = 60,
    log: Path | None = None,
    **flags: int | str,
) -> Vcsim:
    """Start a simulator with its files in `folder`, and wait until it answers.

    `port` 0 means a free one. `flags` are further flags of the binary with `_` for `-`:
    `model="esx"`, `machines=100`, `lease_timeout=2`, `datastore_capacity=1 << 30`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    certificate_path, key_path = certificate or write_certificate(folder)
    password_file = folder / "password"
    password_file.touch(mode=0o600)
    password = password or secrets.token_urlsafe(12)
    password_file.write_text(password)
    state, uploads = folder / "state.json", folder / "uploads"
    state.unlink(missing_ok=True)
    command = [
        str(ensure_binary()),
        *("-listen", f"{host}:{port}", "-cert", str(certificate_path), "-key", str(key_path)),
        *("-user", username, "-password-file", str(password_file)),
        *("-uploads", str(uploads), "-state", str(state)),
    ]
    for name, value in flags.items():
        command += [f"-{name.replace('_', '-')}", str(value)]
    log_path = log or folder / "vcsim.log"
    with log_path.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=_environment()
        )
    deadline = time.monotonic() + ready_seconds
    while not state.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise RuntimeError(
                f"the simulator did not start: {log_path.read_text(errors='replace')[-2000:]}"
            )
        time.sleep(0.02)
    shown = json.loads(state.read_text())
    return Vcsim(
        host=host,
        port=int(shown["address"].rpartition(":")[2]),
        username=username,
        password=password,
        password_file=password_file,
        thumbprint=shown["thumbprint_sha256"],
        certificate_path=certificate_path,
        uploads=uploads,
        process=process,
    )


@contextlib.contextmanager
def running_vcsim(folder: Path | None = None, **flags: Any) -> Iterator[Vcsim]:
    """Run a simulator for the length of a `with` block, in a temporary folder unless given one."""
    with contextlib.ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vcsim-")))
        simulator = start_vcsim(place, **flags)
        stack.callback(simulator.stop)
        yield simulator


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "HOME": os.environ.get("HOME", "/tmp")}
