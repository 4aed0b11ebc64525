"""What cores say to each other: one frozen type for each message, with bounds for its fields.

A message is parsed once, on arrival, by `from_json`, and written once, by `to_json`; in between, no
code has to check whether a field is there. The names of the fields are those on the wire. Versions
of the product must understand each other: a field is never renamed, a new one has a default, and
unknown fields are ignored. On the wire a rescue machine's ID is called `target_id`.
"""

import logging
import re
import ssl
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from uuid import UUID

import msgspec
from cryptography import x509
from django.utils import timezone
from msgspec import UNSET, Meta, UnsetType

from agent.client import MachineDescription
from agent.errors import ProtocolBroken
from console.identity import fingerprint_of
from console.jobs.choices import JobState
from protected_machines.agents.delegation import delegate_machine
from protected_machines.claims import EPOCH_LIMIT, OwnershipClaim
from protected_machines.models import Machine
from protected_machines.points.index import YEARS
from replication.errors import PeerFaulty
from replication.models import Pairing, ReplicatedMachine

logger = logging.getLogger(__name__)

MESSAGE_LIMIT_BYTES = 64 * 1024 * 1024
POINTS_LIMIT = 1_000_000
MACHINES_LIMIT = 100_000
FELLOWS_LIMIT = 100

# No database accepts a NUL or half a surrogate pair.
_TEXT = r"\A[^\x00\ud800-\udfff]*\Z"
_ONE_LINE = r"\A[^\x00-\x1f\x7f\ud800-\udfff]*\Z"
HEXADECIMAL = r"\A[0-9a-f]*\Z"
_NO_URL = r"\A[^\x00-\x20\x7f/?#@\[\]\\\ud800-\udfff]*\Z"

Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=_ONE_LINE)]
Line = Annotated[str, Meta(max_length=200, pattern=_ONE_LINE)]
Text = Annotated[str, Meta(max_length=100_000, pattern=_TEXT)]
Code = Annotated[str, Meta(max_length=60, pattern=_ONE_LINE)]
Secret = Annotated[str, Meta(min_length=1, max_length=200, pattern=_ONE_LINE)]
PairingCode = Annotated[str, Meta(min_length=1, max_length=100, pattern=_ONE_LINE)]
Salt = Annotated[str, Meta(min_length=32, max_length=32, pattern=HEXADECIMAL)]
Nonce = Annotated[str, Meta(min_length=64, max_length=64, pattern=HEXADECIMAL)]
Proof = Annotated[str, Meta(min_length=64, max_length=64, pattern=HEXADECIMAL)]
Digest = Annotated[str, Meta(min_length=64, max_length=64, pattern=HEXADECIMAL)]
Host = Annotated[str, Meta(min_length=1, max_length=253, pattern=_NO_URL)]
MaybeHost = Annotated[str, Meta(max_length=253, pattern=_NO_URL)]
Address = Annotated[str, Meta(max_length=260, pattern=_ONE_LINE)]
Port = Annotated[int, Meta(ge=1, le=65_535)]
Pem = Annotated[str, Meta(max_length=65_536, pattern=_TEXT)]
FileName = Annotated[str, Meta(min_length=1, max_length=255, pattern=_ONE_LINE)]
# Leaves room: an epoch at this limit can still rise in the database.
Epoch = Annotated[int, Meta(ge=1, le=EPOCH_LIMIT)]
Count = Annotated[int, Meta(ge=0, le=POINTS_LIMIT)]
# Small enough that pages can add up those of thousands of machines.
ByteCount = Annotated[int, Meta(ge=0, le=1 << 50)]
IntervalSeconds = Annotated[int, Meta(ge=1, le=(1 << 31) - 1)]
Time = Annotated[datetime, Meta(tz=True)]
PointIds = Annotated[tuple[UUID, ...], Meta(max_length=POINTS_LIMIT)]
MachineIds = Annotated[tuple[UUID, ...], Meta(max_length=MACHINES_LIMIT)]


class _Described(type):
    """Makes a stand-in for a type that parses itself, so that msgspec calls our hook for it."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, MachineDescription)


if TYPE_CHECKING:
    Description = MachineDescription
else:

    class Description(metaclass=_Described):
        """What the agent says about its machine."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message, or a part of one."""

    def __post_init__(self) -> None:
        """Reject times that cannot be calculated with. Called for parsed and for new messages.

        Raises:
            ValueError: the text names the field.
        """
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, datetime) and value.year not in YEARS:
                raise ValueError(f"{name} is in the year {value.year}")

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Parse a message that arrived.

        Raises:
            PeerFaulty: a field is missing, has the wrong type or is out of bounds; the text names
                it.
        """
        try:
            return msgspec.convert(value, cls, dec_hook=_read_description)
        except msgspec.ValidationError as error:
            raise PeerFaulty(_in_words(error)) from error

    def to_json(self) -> dict[str, Any]:
        """Return the message as it is sent."""
        fields: dict[str, Any] = msgspec.to_builtins(self, str_keys=True)
        for name in fields:
            value = getattr(self, name)
            if isinstance(value, MachineDescription):
                fields[name] = value.to_json()
        return fields


def decode(data: bytes) -> object:
    """Return the JSON value that arrived; strict: no NaN, no invalid text, no endless nesting.

    Raises:
        PeerFaulty: it is not valid JSON.
    """
    try:
        value: object = msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise PeerFaulty(f"The message is not JSON: {error}.") from error
    return value


def read_offset(text: str | None) -> int:
    """Return the offset of a slice in its file, which is part of the URL.

    Raises:
        PeerFaulty: it is not a number of bytes.
    """
    if text is None or not re.fullmatch(r"[0-9]{1,18}", text):
        raise PeerFaulty("The field offset_bytes is wrong: expected a number of bytes.")
    return int(text)


def _read_description(kind: type, value: object) -> MachineDescription:
    if kind is not Description:
        raise NotImplementedError(kind)
    try:
        return MachineDescription.from_json(value)
    except ProtocolBroken as error:
        raise ValueError(str(error)) from error


_MISSING = re.compile(
    r"Object missing required field `(?P<field>\w+)`(?: - at `\$\.?(?P<outer>.*)`)?"
)
_WRONG = re.compile(
    r"(?P<reason>.*) - at `(?:\$\.?)?(?P<field>.+?)`(?: in `\$\.?(?P<outer>.*)`)?", re.DOTALL
)


def _in_words(error: msgspec.ValidationError) -> str:
    missing, wrong = _MISSING.fullmatch(str(error)), _WRONG.fullmatch(str(error))
    found = missing or wrong
    if found is None:
        return f"The message is wrong: {error}."
    field = ".".join(filter(None, (found["outer"], found["field"])))
    reason = f"is wrong: {wrong['reason']}" if wrong and not missing else "is missing"
    return f"The field {field} {reason}."


def _check_certificate(name: str, certificate_pem: str) -> None:
    """Reject a certificate that could not be pinned: not exactly one, or unusable for TLS."""
    try:
        x509.load_der_x509_certificate(ssl.PEM_cert_to_DER_cert(certificate_pem))
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=certificate_pem)
    except (ValueError, ssl.SSLError, x509.InvalidVersion) as error:
        raise ValueError(f"{name} is not a certificate: {error}") from error


class Announcement(Message, frozen=True, kw_only=True):
    """Where a machine is, as its agent says after a start. Not from a core; see docs/agent.md."""

    machine_id: UUID
    boot_id: Name
    port: Port
    addresses: Annotated[tuple[Host, ...], Meta(max_length=16)] = ()


class Nothing(Message, frozen=True, kw_only=True):
    """An empty answer or request."""


class Refusal(Message, frozen=True, kw_only=True):
    """Why a request is rejected, in an answer with an error status."""

    code: Code = ""
    text: Text = ""
    # Of OwnedElsewhere.
    machine_id: Line | UnsetType = UNSET
    machine_name: Line | UnsetType = UNSET
    owner_core_id: UUID | UnsetType = UNSET
    owner_core_name: Line | UnsetType = UNSET
    ownership_epoch: Epoch | UnsetType = UNSET
    owned_since: Time | UnsetType | None = UNSET
    # Of OffsetMismatch.
    file_name: FileName | UnsetType = UNSET
    held_bytes: ByteCount | UnsetType = UNSET

    @property
    def claim(self) -> OwnershipClaim | None:
        """Who owns the machine, if that is the reason."""
        if (
            self.owner_core_id is UNSET
            or self.owner_core_name is UNSET
            or self.ownership_epoch is UNSET
        ):
            return None
        since = self.owned_since or timezone.now()
        return OwnershipClaim(
            str(self.owner_core_id), self.owner_core_name, self.ownership_epoch, since
        )


class PairingChallenge(Message, frozen=True, kw_only=True):
    """What a core needs to prove that it knows the pairing code; see agent/proof.py."""

    salt: Salt
    nonce: Nonce


class PairingRequest(Message, frozen=True, kw_only=True):
    """Who the core that asks to pair is, its role, and the proof that it knows the code."""

    pairing_id: UUID
    core_id: UUID
    name: Name
    host: Host
    port: Port
    certificate_pem: Pem
    secret: Secret
    role: Literal["source", "target"] = "source"
    nonce: Nonce
    proof: Proof

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_certificate("certificate_pem", self.certificate_pem)

    @property
    def caller(self) -> str:
        """What is the same whenever a core asks again for the same pairing, and of no other."""
        return f"{self.role} {self.core_id} {fingerprint_of(self.certificate_pem)}"


class PairingAnswer(Message, frozen=True, kw_only=True):
    """Who the core that was asked is, and the proof that it knows the code."""

    pairing_id: UUID
    core_id: UUID
    name: Name
    secret: Secret
    proof: Proof


class Ownership(Message, frozen=True, kw_only=True):
    """Who owns a machine, as far as one core knows."""

    machine_id: UUID
    machine_name: Line = ""
    owner_core_id: UUID
    owner_core_name: Name
    ownership_epoch: Epoch
    owned_since: Time | None = None

    @classmethod
    def of(cls, machine: Machine) -> Self:
        return cls(
            machine_id=machine.pk,
            machine_name=machine.name,
            owner_core_id=machine.owner_core_id,
            owner_core_name=machine.owner_core_name,
            ownership_epoch=machine.ownership_epoch,
            owned_since=machine.owned_since,
        )

    @property
    def claim(self) -> OwnershipClaim:
        return OwnershipClaim(
            str(self.owner_core_id),
            self.owner_core_name,
            self.ownership_epoch,
            self.owned_since or timezone.now(),
        )


class OwnershipAnswer(Message, frozen=True, kw_only=True):
    """Who owns the machine in question; none if the core does not know it."""

    ownership: Ownership | None

    @classmethod
    def from_json(cls, value: object) -> Self:
        if isinstance(value, dict) and value.get("owner_core_id") == "":
            return cls(ownership=None)
        return cls(ownership=Ownership.from_json(value))

    def to_json(self) -> dict[str, Any]:
        return self.ownership.to_json() if self.ownership else {"owner_core_id": ""}


class Behind(Message, frozen=True, kw_only=True):
    """What the receiver of a machine lacks, as its sender counts it."""

    points: Count = 0
    bytes: ByteCount = 0
    newest_point_at: Time | None = None


class Fellow(Message, frozen=True, kw_only=True):
    """Another target core of the source core that sends this.

    secret: what the receiver presents to that core; `secret_digest` is of what it will present.
    """

    core_id: UUID
    name: Name
    host: Host
    port: Port
    certificate_pem: Pem
    secret: Secret
    secret_digest: Digest

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_certificate("certificate_pem", self.certificate_pem)


class FellowAnswer(Message, frozen=True, kw_only=True):
    """Who owns the machines of the common source core that have moved, as a fellow knows it."""

    ownership: Annotated[tuple[Ownership, ...], Meta(max_length=MACHINES_LIMIT)] = ()


class PeerStatus(Message, frozen=True, kw_only=True):
    """A core's status on a pairing; machines are listed only if something is unusual.

    An entry that cannot be read is left out, so that one machine does not hide the others; in
    `behind` it is none, which changes nothing.
    """

    core_id: UUID
    name: Name
    version: Line = ""
    is_paused: bool = False
    paused_machine_ids: MachineIds = ()
    ownership: Annotated[tuple[Ownership, ...], Meta(max_length=MACHINES_LIMIT)] = ()
    # By the sender's clock, when the message was made.
    now: Time | UnsetType = UNSET
    # Where machines reach the sender; empty if that is where the receiver does.
    host_for_machines: MaybeHost = ""
    # Only from source cores: the other targets of the machines that are replicated to the receiver.
    fellows: Annotated[tuple[Fellow, ...], Meta(max_length=FELLOWS_LIMIT)] | UnsetType = UNSET
    # Only from source cores. A machine that is not listed has nothing waiting.
    behind: Annotated[Mapping[UUID, Behind | None], Meta(max_length=MACHINES_LIMIT)] | UnsetType = (
        UNSET
    )

    @classmethod
    def from_json(cls, value: object) -> Self:
        if isinstance(value, dict):
            value = {**value}
            for name, kind in (
                ("paused_machine_ids", UUID),
                ("ownership", Ownership),
                ("fellows", Fellow),
            ):
                if isinstance(value.get(name), list):
                    read = [_read_entry(name, entry, kind) for entry in value[name]]
                    value[name] = [entry for entry in read if entry is not None]
            if isinstance(value.get("behind"), dict):
                value["behind"] = {
                    machine_id: _read_entry("behind", told, Behind | None)
                    for machine_id, told in value["behind"].items()
                    if _read_entry("behind", machine_id, UUID) is not None
                }
        return super().from_json(value)


def _read_entry(name: str, value: object, kind: Any) -> object:
    """Return the entry unchanged, as JSON; none if it cannot be read."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        logger.warning("peer status entry unread field=%s error=%s", name, error)
        return None
    return value


class SentMachine(Message, frozen=True, kw_only=True):
    """What the core that owns a machine says about it."""

    name: Name
    host: MaybeHost = ""
    port: Port = 8006
    agent_certificate_pem: Pem = ""
    # By it the receiving core may protect the machine too; see agent/delegation.py.
    delegation_pem: Pem = ""
    description: Description = MachineDescription()
    snapshot_interval_seconds: IntervalSeconds = 3600
    ownership_epoch: Epoch
    owned_since: Time | None = None
    newest_point_at: Time | None = None
    behind_points: Count = 0
    behind_bytes: ByteCount = 0
    # From a source core: the other cores to which it replicates the machine.
    fellow_core_ids: Annotated[tuple[UUID, ...], Meta(max_length=FELLOWS_LIMIT)] = ()
    # All points that the owner holds; tells its source core which of its own are off the main line.
    point_ids: PointIds | UnsetType = UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("agent_certificate_pem", "delegation_pem"):
            if getattr(self, name):
                _check_certificate(name, getattr(self, name))

    @classmethod
    def of(cls, replicated: ReplicatedMachine) -> Self:
        machine, pairing = replicated.machine, replicated.pairing
        is_delegated = machine.is_owned_here and machine.agent_certificate_pem
        return cls(
            name=machine.name,
            host=machine.host,
            port=machine.port,
            agent_certificate_pem=machine.agent_certificate_pem,
            delegation_pem=delegate_machine(
                machine, pairing.peer_certificate_pem, pairing.peer_name
            )
            if is_delegated and pairing.peer_certificate_pem
            else "",
            description=MachineDescription.from_json(machine.description),
            snapshot_interval_seconds=machine.snapshot_interval_seconds,
            ownership_epoch=machine.ownership_epoch,
            owned_since=machine.owned_since,
            newest_point_at=replicated.newest_point_at,
            behind_points=replicated.behind_points,
            behind_bytes=replicated.behind_bytes,
            fellow_core_ids=tuple(replicated.other_target_ids()) if pairing.is_outgoing else (),
        )

    @property
    def behind(self) -> Behind:
        return Behind(
            points=self.behind_points,
            bytes=self.behind_bytes,
            newest_point_at=self.newest_point_at,
        )

    def claim_of(self, pairing: Pairing) -> OwnershipClaim:
        """Return the claim that the sender owns the machine."""
        return OwnershipClaim(
            str(pairing.peer_core_id),
            pairing.peer_name,
            self.ownership_epoch,
            self.owned_since or timezone.now(),
        )

    def copy_to(self, machine: Machine) -> list[str]:
        """Set the machine's columns; return the names of those that changed."""
        columns = {"name": self.name, "host": self.host, "port": self.port}
        return self.copy_settings_to(machine) + _set_columns(machine, columns)

    def copy_settings_to(self, machine: Machine) -> list[str]:
        """The same without name and address: the core to which it comes back has its own."""
        columns = {
            "agent_certificate_pem": self.agent_certificate_pem,
            "description": self.description.to_json(),
            "snapshot_interval_seconds": self.snapshot_interval_seconds,
        }
        return _set_columns(machine, columns)


def _set_columns(machine: Machine, columns: Mapping[str, object]) -> list[str]:
    changed = [name for name, value in columns.items() if getattr(machine, name) != value]
    for name in changed:
        setattr(machine, name, columns[name])
    return changed


class WantedPoints(Message, frozen=True, kw_only=True):
    """Points that the receiver may lack."""

    point_ids: PointIds


class MissingPoints(Message, frozen=True, kw_only=True):
    """Those of them that it lacks, in the same order."""

    missing: PointIds


class HeldPoints(Message, frozen=True, kw_only=True):
    """The points of a machine that a core holds."""

    point_ids: PointIds


class HeldFiles(Message, frozen=True, kw_only=True):
    """How many bytes of each file of an arriving point the receiver holds."""

    held_bytes: Annotated[Mapping[FileName, ByteCount], Meta(max_length=1000)]


class HeldFile(Message, frozen=True, kw_only=True):
    """How many bytes of a file the receiver holds after a slice."""

    held_bytes: ByteCount


class KeptPoint(Message, frozen=True, kw_only=True):
    """The point that the receiver has proven and kept."""

    point_id: UUID


class SendRequest(Message, frozen=True, kw_only=True):
    """Machines that a source core should send now; empty means all."""

    machine_ids: MachineIds = ()


class StartedSending(Message, frozen=True, kw_only=True):
    """The names of the machines that it sends."""

    started: Annotated[tuple[Name, ...], Meta(max_length=MACHINES_LIMIT)]


class RescueAddress(Message, frozen=True, kw_only=True):
    """Where a rescue machine answers, and the code on its screen."""

    host: Host
    port: Port
    code: PairingCode


class FoundRescueMachine(Message, frozen=True, kw_only=True):
    """A rescue machine that the source core has paired with."""

    target_id: UUID
    address: Address = ""
    description: Description


class ChosenRescueMachine(Message, frozen=True, kw_only=True):
    """A rescue machine, by its ID on the source core."""

    target_id: UUID


class SoughtMachine(Message, frozen=True, kw_only=True):
    """A machine that was restored to a rescue machine, by that one's ID on the source core."""

    target_id: UUID
    # Where a person says that it is; empty if nobody does.
    host: MaybeHost = ""
    port: Port = 8006


class RestoreRequest(Message, frozen=True, kw_only=True):
    """Which point to write where; with `since_point_id`, only what has changed since that point."""

    request_id: UUID
    target_id: UUID
    point_id: UUID
    since_point_id: UUID | None = None


class SnapshotRequest(Message, frozen=True, kw_only=True):
    """A request for a snapshot; its ID makes a repeated one recognisable."""

    request_id: UUID


class MachineAddress(Message, frozen=True, kw_only=True):
    """Where a machine's own agent answers, and its description."""

    host: Host
    port: Port
    description: Description


class MachineAnswer(Message, frozen=True, kw_only=True):
    """Whether the machine's own agent answers the source core: where, or why not yet."""

    address: MachineAddress | None
    text: Text = ""

    @classmethod
    def from_json(cls, value: object) -> Self:
        told = _ToldAnswer.from_json(value)
        if told.answers:
            return cls(address=MachineAddress.from_json(value))
        return cls(address=None, text=told.text)

    def to_json(self) -> dict[str, Any]:
        if self.address is not None:
            return {"answers": True, **self.address.to_json()}
        return {"answers": False, "text": self.text}


class _ToldAnswer(Message, frozen=True, kw_only=True):
    answers: bool
    text: Text = ""


class TakeOver(Message, frozen=True, kw_only=True):
    """A machine that is handed over: where it answers now, and its new ownership epoch."""

    host: Host
    port: Port
    description: Description
    ownership_epoch: Epoch
    owned_since: Time | None = None


class NamedPoint(Message, frozen=True, kw_only=True):
    """The output of a snapshot's first step: the ID of the point."""

    point_id: UUID


class WrittenDisks(Message, frozen=True, kw_only=True):
    """The output of a restore."""

    disks: Annotated[int, Meta(ge=0, le=10_000)]
    written_bytes: ByteCount


class JobOutputs(Message, frozen=True, kw_only=True):
    """Outputs of a job's finished steps that the other core needs."""

    reserve_point: NamedPoint | UnsetType = UNSET
    restore_disks: WrittenDisks | UnsetType = UNSET


class JobStatus(Message, frozen=True, kw_only=True):
    """The status of a job of the source core, for the owner to show and to wait for."""

    job_id: UUID
    state: JobState
    step_title: Line = ""
    note: Text = ""
    done_bytes: ByteCount = 0
    total_bytes: ByteCount | None = None
    error_code: Code = ""
    error_text: Text = ""
    outputs: JobOutputs = JobOutputs()
