"""Call another core. The peer proves itself with its pinned certificate, this core with a secret.

Nothing here touches the database; the caller records what a failed call means for the pairing.
"""

import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import UUID

import httpx
from msgspec import UNSET

from agent.reasons import reason_of
from console.identity import fingerprint_of
from replication.errors import (
    DamagedOnArrival,
    FailbackRefused,
    OffsetMismatch,
    OwnedElsewhere,
    PairingCodeRefused,
    PeerFaulty,
    PeerPausedReplication,
    PeerRefusedSecret,
    PeerStoreFull,
    PeerUnreachable,
    QuotaReached,
)
from replication.peers import wire
from replication.peers.pinning import pinned_context

CONNECT_TIMEOUT_SECONDS = 5.0
ANSWER_TIMEOUT_SECONDS = 60.0
# A peer reads the whole point before it answers a commit, however slow its disk is.
_PROVEN_BYTES_PER_SECOND = 10_000_000
# Notice within a minute that a peer's computer is gone, even while waiting for a long answer.
_KEEP_ALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
]
_PATH = "/api/v1"
_REFUSED = 409


Answer = TypeVar("Answer", bound=wire.Message)


def fetch_certificate(host: str, port: int) -> str:
    """Return the certificate (PEM) of the host that answers there, to be compared and pinned.

    Raises:
        PeerUnreachable: nothing answers with TLS.
    """
    try:
        return ssl.get_server_certificate((host, port), timeout=CONNECT_TIMEOUT_SECONDS)
    except (OSError, ValueError) as error:
        raise PeerUnreachable(
            f"No core responds at {host}:{port}: {reason_of(error)}. Check the address and the "
            "port, and that the core interface is running there."
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
        authorization: str = "",
        answer_timeout_seconds: float = ANSWER_TIMEOUT_SECONDS,
        connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
    ) -> None:
        self._peer = f"{peer_name or 'the core'} at {host}:{port}"
        headers = {"Accept": "application/json", "User-Agent": "understudy"}
        if authorization:
            headers["Authorization"] = authorization
        address = f"[{host}]" if ":" in host else host
        self._http = httpx.Client(
            base_url=f"https://{address}:{port}{_PATH}",
            transport=httpx.HTTPTransport(
                verify=pinned_context(certificate_pem, self._peer), socket_options=_KEEP_ALIVE
            ),
            headers=headers,
            timeout=httpx.Timeout(answer_timeout_seconds, connect=connect_timeout_seconds),
            trust_env=False,
            follow_redirects=False,
        )

    def __enter__(self) -> "PeerClient":
        return self

    def __exit__(self, *_exc: object) -> None:
        self._http.close()

    def pairing_challenge(self) -> wire.PairingChallenge:
        """Return what this core needs to prove the peer's pairing code."""
        return self._call("GET", "/pair", wire.PairingChallenge)

    def pair(self, request: wire.PairingRequest) -> wire.PairingAnswer:
        """Ask the peer to pair with this core; `request` says who this core is.

        Raises:
            PairingCodeRefused: the peer has no such code, or no longer.
        """
        return self._call("POST", "/pair", wire.PairingAnswer, request)

    def status(self) -> wire.PeerStatus:
        """Return the peer's status on this pairing."""
        return self._call("GET", "/status", wire.PeerStatus)

    def send_status(self, status: wire.PeerStatus) -> wire.PeerStatus:
        """Send this core's status on this pairing; return the peer's."""
        return self._call("POST", "/status", wire.PeerStatus, status)

    def machines_moved(self) -> wire.FellowAnswer:
        """Return who owns machines of the common source core, according to a fellow target."""
        return self._call("GET", "/fellow/ownership", wire.FellowAnswer)

    def ownership(self, machine_id: UUID) -> wire.Ownership | None:
        """Return who owns the machine according to the peer; none if the peer does not know it."""
        path = f"/machines/{machine_id}/ownership"
        return self._call("GET", path, wire.OwnershipAnswer).ownership

    def put_machine(self, machine_id: UUID, machine: wire.SentMachine) -> wire.Ownership:
        """Tell the peer about this machine.

        Raises:
            OwnedElsewhere: the peer knows another owner.
        """
        return self._call("PUT", f"/machines/{machine_id}", wire.Ownership, machine)

    def missing_points(self, machine_id: UUID, point_ids: Sequence[UUID]) -> tuple[UUID, ...]:
        """Return those of the points that the peer does not hold, in the order given."""
        asked = wire.WantedPoints(point_ids=tuple(point_ids))
        path = f"/machines/{machine_id}/missing-points"
        missing = self._call("POST", path, wire.MissingPoints, asked).missing
        if not set(missing) <= set(point_ids):
            raise PeerFaulty(f"{self._peer} asked for points that it was not offered.")
        return missing

    def begin_replica(self, machine_id: UUID, manifest_bytes: bytes) -> Mapping[str, int]:
        """Offer a point; return how many bytes of each file the peer already holds."""
        answer = self._call(
            "POST",
            f"/machines/{machine_id}/replicas",
            wire.HeldFiles,
            content=manifest_bytes,
            headers={"Content-Type": "application/json"},
        )
        return answer.held_bytes

    def put_slice(
        self, machine_id: UUID, point_id: str, file_name: str, offset_bytes: int, data: bytes
    ) -> int:
        """Send bytes of a file; return how many bytes the peer holds now.

        Raises:
            OffsetMismatch: the peer holds more or less of the file than assumed.
        """
        answer = self._call(
            "PUT",
            f"/machines/{machine_id}/replicas/{point_id}/files/{quote(file_name, safe='')}",
            wire.HeldFile,
            params={"offset_bytes": offset_bytes},
            content=data,
            headers={"Content-Type": "application/octet-stream"},
        )
        return answer.held_bytes

    def commit_replica(self, machine_id: UUID, point_id: str, file_bytes: int) -> None:
        """Have the peer check every digest and keep the point.

        file_bytes: how much it has to read for that; the time-out depends on it.

        Raises:
            DamagedOnArrival: a file does not match its digest.
        """
        limit_seconds = ANSWER_TIMEOUT_SECONDS + file_bytes / _PROVEN_BYTES_PER_SECOND
        self._call(
            "POST",
            f"/machines/{machine_id}/replicas/{point_id}/commit",
            wire.KeptPoint,
            wire.Nothing(),
            timeout=httpx.Timeout(limit_seconds, connect=CONNECT_TIMEOUT_SECONDS),
        )

    def ask_to_send(self, machine_ids: Sequence[UUID] = ()) -> tuple[str, ...]:
        """Have a source core send missing points now; return the names of the machines it sends.

        machine_ids: empty means all.
        """
        asked = wire.SendRequest(machine_ids=tuple(machine_ids))
        return self._call("POST", "/force", wire.StartedSending, asked).started

    def point_ids(self, machine_id: UUID) -> tuple[UUID, ...]:
        """Return the points of a machine that the source core holds."""
        return self._call("GET", f"/machines/{machine_id}/points", wire.HeldPoints).point_ids

    def survey_rescue_machine(self, host: str, port: int, code: str) -> wire.FoundRescueMachine:
        """Have the source core pair with a rescue machine and describe its disks.

        Raises:
            FailbackRefused: pairing failed; it has the agent's code.
        """
        asked = wire.RescueAddress(host=host, port=port, code=code)
        return self._call("POST", "/restore-targets", wire.FoundRescueMachine, asked)

    def start_restore(self, machine_id: UUID, asked: wire.RestoreRequest) -> wire.JobStatus:
        """Have the source core write a point to a rescue machine; return the job."""
        return self._call("POST", f"/machines/{machine_id}/restores", wire.JobStatus, asked)

    def restart_rescue_machine(self, machine_id: UUID, rescue_id: UUID) -> None:
        """Have the source core start the rescue machine from its own disk."""
        chosen = wire.ChosenRescueMachine(target_id=rescue_id)
        self._call("POST", f"/machines/{machine_id}/restart", wire.Nothing, chosen)

    def ask_machine(self, machine_id: UUID, sought: wire.SoughtMachine) -> wire.MachineAnswer:
        """Return whether the machine's own agent answers the source core, and where."""
        return self._call("POST", f"/machines/{machine_id}/ask", wire.MachineAnswer, sought)

    def take_over(self, machine_id: UUID, sent: wire.TakeOver) -> wire.Ownership:
        """Have the source core take over a machine that was handed over to it, and protect it."""
        return self._call("POST", f"/machines/{machine_id}/take-over", wire.Ownership, sent)

    def force_snapshot(self, machine_id: UUID, request_id: UUID) -> wire.JobStatus:
        """Have the source core take a recovery point; return the job."""
        asked = wire.SnapshotRequest(request_id=request_id)
        return self._call("POST", f"/machines/{machine_id}/snapshots", wire.JobStatus, asked)

    def cancel_job(self, machine_id: UUID, job_id: UUID) -> wire.JobStatus:
        """Cancel a job of the source core; return its status."""
        path = f"/machines/{machine_id}/jobs/{job_id}/cancel"
        return self._call("POST", path, wire.JobStatus, wire.Nothing())

    def _call(
        self,
        method: str,
        path: str,
        kind: type[Answer],
        message: wire.Message | None = None,
        **options: Any,
    ) -> Answer:
        if message is not None:
            options["json"] = message.to_json()
        with self._connection_errors(), self._http.stream(method, path, **options) as response:
            body = self._body(response)
        try:
            answer = wire.decode(body)
            if response.is_success:
                return kind.from_json(answer)
            refusal = wire.Refusal.from_json(answer)
        except PeerFaulty as error:
            raise PeerFaulty(
                f"{self._peer} gave an unreadable answer with status "
                f"{response.status_code} to {method} {path}. {error.text} Check that the "
                "port is the core interface of an Understudy core."
            ) from error
        raise self._error_of(response.status_code, refusal)

    def _body(self, response: httpx.Response) -> bytes:
        body = bytearray()
        for data in response.iter_bytes():
            body += data
            if len(body) > wire.MESSAGE_LIMIT_BYTES:
                raise PeerFaulty(f"{self._peer} sent more than {wire.MESSAGE_LIMIT_BYTES} bytes.")
        return bytes(body)

    @contextmanager
    def _connection_errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise PeerUnreachable(f"{self._peer} did not respond in time.") from error
        except httpx.TransportError as error:
            raise PeerUnreachable(f"{self._peer} is not responding: {reason_of(error)}.") from error

    def _error_of(self, status: int, refusal: wire.Refusal) -> Exception:
        if refusal.code == OwnedElsewhere.code and refusal.claim is not None:
            return OwnedElsewhere(refusal.machine_name or "The machine", refusal.claim)
        if refusal.code == OffsetMismatch.code and refusal.held_bytes is not UNSET:
            return OffsetMismatch(refusal.file_name or "The file", refusal.held_bytes)
        for kind in (
            DamagedOnArrival,
            PeerRefusedSecret,
            PairingCodeRefused,
            PeerPausedReplication,
            PeerStoreFull,
            QuotaReached,
        ):
            if refusal.code == kind.code:
                return kind(refusal.text)
        if status == _REFUSED and refusal.code:
            return FailbackRefused(refusal.text, refusal.code)
        reason = refusal.text or refusal.code or "no reason given"
        return PeerFaulty(f"{self._peer} answered {status}: {reason}")


def short_fingerprint(certificate_pem: str) -> str:
    """Return a certificate's fingerprint in groups that a person can compare."""
    digits = fingerprint_of(certificate_pem).upper()
    return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
