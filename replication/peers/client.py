"""Call another core. The peer is known by its pinned certificate, this core by a shared secret.

Nothing here touches the database; what a failed call means for a pairing is the caller's to note.
"""

import datetime
import socket
import ssl
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from console.identity import fingerprint_of
from replication.errors import (
    DamagedOnArrival,
    FailbackRefused,
    OffsetMismatch,
    OwnedElsewhere,
    PeerCertificateChanged,
    PeerFaulty,
    PeerPausedReplication,
    PeerRefusedAdministrator,
    PeerRefusedSecret,
    PeerStoreFull,
    PeerUnreachable,
)

CONNECT_TIMEOUT_SECONDS = 5.0
ANSWER_TIMEOUT_SECONDS = 60.0
# A peer reads all that arrived before it says that a point is whole, be its disk ever so slow.
_PROVEN_BYTES_PER_SECOND = 10_000_000
# Notices within a minute that the peer's computer has gone, also while a long answer is due.
_KEEP_ALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
]
_PATH = "/api/v1"
_REFUSED = 409
_NO_CHECK_OF_NAMES = False  # A core is known by its certificate alone; its name may be an address.


@dataclass(frozen=True)
class Ownership:
    """Who owns a machine, as one core knows it."""

    machine_id: str
    owner_core_id: str
    owner_core_name: str
    epoch: int
    owned_since: datetime.datetime | None

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Ownership":
        since = fields.get("owned_since")
        return cls(
            machine_id=str(fields["machine_id"]),
            owner_core_id=str(fields["owner_core_id"]),
            owner_core_name=str(fields["owner_core_name"]),
            epoch=int(fields["ownership_epoch"]),
            owned_since=datetime.datetime.fromisoformat(since) if since else None,
        )


def fetch_certificate(host: str, port: int) -> str:
    """Return the PEM certificate of whoever answers there, for a person to compare and pin.

    Raises:
        PeerUnreachable: nobody answers in TLS.
    """
    try:
        return ssl.get_server_certificate((host, port), timeout=CONNECT_TIMEOUT_SECONDS)
    except (OSError, ValueError) as error:
        raise PeerUnreachable(
            f"No core answers at {host}:{port}: {error}. Check the address, the core's port and "
            "that its core interface is running."
        ) from error


class PeerClient:
    """A connection to one peer, kept open between calls; use it as a context manager."""

    def __init__(
        self,
        host: str,
        port: int,
        certificate_pem: str,
        *,
        peer_name: str = "",
        pairing_id: uuid.UUID | None = None,
        secret: str = "",
        answer_timeout_seconds: float = ANSWER_TIMEOUT_SECONDS,
        connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
    ) -> None:
        self._peer = f"{peer_name or 'the core'} at {host}:{port}"
        context = ssl.create_default_context(cadata=certificate_pem)
        context.check_hostname = _NO_CHECK_OF_NAMES
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        headers = {"Accept": "application/json", "User-Agent": "understudy"}
        if pairing_id is not None:
            headers["Authorization"] = f"Understudy {pairing_id}:{secret}"
        address = f"[{host}]" if ":" in host else host
        self._http = httpx.Client(
            base_url=f"https://{address}:{port}{_PATH}",
            transport=httpx.HTTPTransport(verify=context, socket_options=_KEEP_ALIVE),
            headers=headers,
            timeout=httpx.Timeout(answer_timeout_seconds, connect=connect_timeout_seconds),
            trust_env=False,
            follow_redirects=False,
        )

    def __enter__(self) -> "PeerClient":
        return self

    def __exit__(self, *_exc: object) -> None:
        self._http.close()

    def pair(self, username: str, password: str, request: dict[str, Any]) -> dict[str, Any]:
        """Ask the peer to become the target of this core; `request` says who this core is."""
        return self._call("POST", "/pair", json=request, auth=httpx.BasicAuth(username, password))

    def status(self) -> dict[str, Any]:
        """Return how the peer stands on this pairing."""
        return self._call("GET", "/status")

    def send_status(self, status: dict[str, Any]) -> dict[str, Any]:
        """Tell the peer how this core stands on this pairing; return how the peer does."""
        return self._call("POST", "/status", json=status)

    def ownership(self, machine_id: str) -> Ownership | None:
        """Return who owns the machine as the peer knows it, or none when it knows no such one."""
        answer = self._call("GET", f"/machines/{machine_id}/ownership")
        return Ownership.from_json(answer) if answer.get("owner_core_id") else None

    def put_machine(self, machine_id: str, machine: dict[str, Any]) -> Ownership:
        """Tell the peer what this machine is.

        Raises:
            OwnedElsewhere: the peer knows another owner.
        """
        return Ownership.from_json(self._call("PUT", f"/machines/{machine_id}", json=machine))

    def missing_points(self, machine_id: str, point_ids: list[str]) -> list[str]:
        """Return those of the points that the peer does not hold, in the order given."""
        answer = self._call(
            "POST", f"/machines/{machine_id}/missing-points", json={"point_ids": point_ids}
        )
        return [str(point_id) for point_id in answer["missing"]]

    def begin_replica(self, machine_id: str, manifest_bytes: bytes) -> dict[str, int]:
        """Offer a point; return per file how many bytes of it the peer already holds."""
        answer = self._call(
            "POST",
            f"/machines/{machine_id}/replicas",
            content=manifest_bytes,
            headers={"Content-Type": "application/json"},
        )
        return {str(name): int(held) for name, held in answer["held_bytes"].items()}

    def put_slice(
        self, machine_id: str, point_id: str, file_name: str, offset_bytes: int, data: bytes
    ) -> int:
        """Send bytes of a file; return up to where the peer holds it now.

        Raises:
            OffsetMismatch: the peer holds the file up to another place.
        """
        path = f"/machines/{machine_id}/replicas/{point_id}/files/{quote(file_name, safe='')}"
        answer = self._call(
            "PUT",
            path,
            params={"offset_bytes": offset_bytes},
            content=data,
            headers={"Content-Type": "application/octet-stream"},
        )
        return int(answer["held_bytes"])

    def commit_replica(self, machine_id: str, point_id: str, file_bytes: int) -> None:
        """Have the peer check every digest and make the point its own.

        file_bytes: what it has to read for that, so that it is given the time.

        Raises:
            DamagedOnArrival: files do not have the digest that the manifest names.
        """
        limit_seconds = ANSWER_TIMEOUT_SECONDS + file_bytes / _PROVEN_BYTES_PER_SECOND
        self._call(
            "POST",
            f"/machines/{machine_id}/replicas/{point_id}/commit",
            json={},
            timeout=httpx.Timeout(limit_seconds, connect=CONNECT_TIMEOUT_SECONDS),
        )

    def ask_to_send(self, machine_ids: list[str]) -> list[str]:
        """Have a source core send what is missing now; return the names of those that will."""
        answer = self._call("POST", "/force", json={"machine_ids": machine_ids})
        return [str(name) for name in answer["started"]]

    def point_ids(self, machine_id: str) -> list[str]:
        """Return the points of a machine that the source core holds."""
        answer = self._call("GET", f"/machines/{machine_id}/points")
        return [str(point_id) for point_id in answer["point_ids"]]

    def look_at_target(self, host: str, port: int, code: str) -> dict[str, Any]:
        """Have the source core pair with a rescue machine; return `target_id`, `description`.

        Raises:
            FailbackRefused: it cannot be paired with; has the agent's code.
        """
        return self._call(
            "POST", "/restore-targets", json={"host": host, "port": port, "code": code}
        )

    def start_restore(
        self,
        machine_id: str,
        request_id: str,
        target_id: str,
        point_id: str,
        since_point_id: str | None = None,
    ) -> dict[str, Any]:
        """Have the source core write a point to a rescue machine; return the job."""
        return self._call(
            "POST",
            f"/machines/{machine_id}/restores",
            json={
                "request_id": request_id,
                "target_id": target_id,
                "point_id": point_id,
                "since_point_id": since_point_id,
            },
        )

    def restart_target(self, machine_id: str, target_id: str) -> None:
        """Have the source core start the rescue machine from its own disk."""
        self._call("POST", f"/machines/{machine_id}/restart", json={"target_id": target_id})

    def ask_machine(self, machine_id: str, target_id: str) -> dict[str, Any]:
        """Return whether the machine's own agent `answers` the source core, and where."""
        return self._call("POST", f"/machines/{machine_id}/ask", json={"target_id": target_id})

    def take_over(self, machine_id: str, sent: dict[str, Any]) -> Ownership:
        """Have the source core own and protect a machine that was handed over to it."""
        return Ownership.from_json(
            self._call("POST", f"/machines/{machine_id}/take-over", json=sent)
        )

    def force_snapshot(self, machine_id: str, request_id: str) -> dict[str, Any]:
        """Have the source core take a recovery point; return the job."""
        return self._call(
            "POST", f"/machines/{machine_id}/snapshots", json={"request_id": request_id}
        )

    def job(self, machine_id: str, job_id: str) -> dict[str, Any]:
        """Return how a job of the source core stands."""
        return self._call("GET", f"/machines/{machine_id}/jobs/{job_id}")

    def cancel_job(self, machine_id: str, job_id: str) -> dict[str, Any]:
        """Cancel a job of the source core; return how it stands."""
        return self._call("POST", f"/machines/{machine_id}/jobs/{job_id}/cancel", json={})

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        with self._connection_errors():
            response = self._http.request(method, path, **options)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise PeerFaulty(
                f"{self._peer} answered {response.status_code} without JSON to {method} {path}. "
                "Check that the port is the core interface of an Understudy core."
            )
        if response.is_success:
            return answer
        raise self._refusal(response.status_code, answer)

    @contextmanager
    def _connection_errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise PeerUnreachable(f"{self._peer} did not answer in time.") from error
        except httpx.TransportError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise PeerCertificateChanged(
                    f"{self._peer} shows another certificate than the one pinned at pairing. "
                    "If the core was set up anew, remove the pairing and pair again."
                ) from error
            raise PeerUnreachable(f"{self._peer} does not answer: {error}.") from error

    def _refusal(self, status: int, answer: dict[str, Any]) -> Exception:
        code, text = str(answer.get("code", "")), str(answer.get("text", ""))
        if code == OwnedElsewhere.code:
            owner = Ownership.from_json(answer)
            return OwnedElsewhere(
                str(answer.get("machine_name", "the machine")),
                owner.owner_core_id,
                owner.owner_core_name,
                owner.epoch,
                owner.owned_since,
            )
        if code == OffsetMismatch.code:
            return OffsetMismatch(str(answer.get("file_name")), int(answer["held_bytes"]))
        for kind in (
            DamagedOnArrival,
            PeerRefusedSecret,
            PeerRefusedAdministrator,
            PeerPausedReplication,
            PeerStoreFull,
        ):
            if code == kind.code:
                return kind(text)
        if status == _REFUSED and code:
            return FailbackRefused(text, code)
        return PeerFaulty(f"{self._peer} answered {status}: {text or code or 'no reason given'}")


def short_fingerprint(certificate_pem: str) -> str:
    """Return a certificate's fingerprint in groups that a person can compare."""
    digits = fingerprint_of(certificate_pem).upper()
    return ":".join(digits[place : place + 2] for place in range(0, len(digits), 2))
