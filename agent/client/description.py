"""An agent's description of its machine, checked once and then passed on as these types.

Cores store descriptions as JSON and send them to each other. `to_json` and `from_json` are the only
conversions, so everything from outside passes the same limits. `docs/agent.md` lists the fields. A
missing field has its default here, since older agents do not send all of them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from agent.configuration import MODES
from agent.errors import ProtocolBroken
from agent.protocol import MAX_CAPACITY_BYTES, MAX_DISKS, is_plain_text

MAX_CPUS = 65_536
MAX_MEMORY_BYTES = 1 << 50
MAX_NICS = 256
MAX_ADDRESSES = 1024
MAX_DRIVERS = 16_384
MAX_TRUSTED_CORES = 256
FIRMWARES = ("bios", "efi")
_DOING = "Reading a machine's description"
_SHORT, _LONG = 200, 4096  # characters


@dataclass(frozen=True)
class DescribedDisk:
    """A disk, by its number on the machine.

    is_blank, content: only from a rescue machine: whether the disk is blank, and what is on it in a
        few words. None if it has not been examined.
    """

    number: int
    key: str
    device: str
    capacity_bytes: int
    controller: str = ""
    is_boot: bool = False
    is_blank: bool | None = None
    content: str | None = None

    @property
    def holds(self) -> str:
        """What is on the disk, in a few words; empty if it is blank or has not been examined."""
        return self.content or ("data" if self.is_blank is False else "")


@dataclass(frozen=True)
class DescribedNic:
    """A network card, and its current addresses."""

    name: str
    mac: str
    driver: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class DescribedCore:
    """A core that the agent trusts; `fingerprint` is the SHA-256 of its certificate."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class DescribedAgent:
    """The agent itself; port 0 if unknown."""

    version: str = ""
    port: int = 0


@dataclass(frozen=True)
class MachineDescription:
    """A machine as its agent describes it; empty texts and zeros stand for unknown values."""

    mode: str = "protect"
    hostname: str = ""
    os: str = ""
    kernel: str = ""
    firmware: str = ""
    boot_id: str = ""
    cpus: int = 0
    sockets: int = 0
    memory_bytes: int = 0
    disks: tuple[DescribedDisk, ...] = ()
    nics: tuple[DescribedNic, ...] = ()
    initramfs_drivers: tuple[str, ...] = ()
    snapshot_provider: str = ""
    can_watch: bool = False
    reads_settings_disk: bool = False
    trusted_cores: tuple[DescribedCore, ...] = ()
    agent: DescribedAgent = DescribedAgent()

    @property
    def is_rescue(self) -> bool:
        """Whether the machine runs the rescue medium."""
        return self.mode == "restore"

    def trusts(self, fingerprint: str) -> bool:
        """Tell whether the agent answers the core with that certificate."""
        return any(core.fingerprint == fingerprint for core in self.trusted_cores)

    def to_json(self) -> dict[str, Any]:
        """Return the description in the form that is stored and sent on."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    @classmethod
    def from_json(cls, value: object) -> MachineDescription:
        """Read a description that came from outside.

        Raises:
            ProtocolBroken: a field has the wrong type or is out of bounds; the text names it.
        """
        fields = _Fields(value, "")
        description = cls(
            mode=fields.word("mode", MODES, "protect"),
            hostname=fields.text("hostname", ""),
            os=fields.text("os", ""),
            kernel=fields.text("kernel", ""),
            firmware=fields.word("firmware", ("", *FIRMWARES), ""),
            boot_id=fields.text("boot_id", ""),
            cpus=fields.number("cpus", 0, MAX_CPUS, 0),
            sockets=fields.number("sockets", 0, MAX_CPUS, 0),
            memory_bytes=fields.number("memory_bytes", 0, MAX_MEMORY_BYTES, 0),
            disks=tuple(_disk(entry) for entry in fields.objects("disks", MAX_DISKS)),
            nics=tuple(_nic(entry) for entry in fields.objects("nics", MAX_NICS)),
            initramfs_drivers=fields.texts("initramfs_drivers", MAX_DRIVERS),
            snapshot_provider=fields.text("snapshot_provider", ""),
            can_watch=bool(fields.flag("can_watch")),
            reads_settings_disk=bool(fields.flag("reads_settings_disk")),
            trusted_cores=tuple(
                DescribedCore(entry.text("name"), entry.text("fingerprint"))
                for entry in fields.objects("trusted_cores", MAX_TRUSTED_CORES)
            ),
            agent=_agent(fields.object("agent")),
        )
        for name in ("number", "key"):
            if len({getattr(disk, name) for disk in description.disks}) < len(description.disks):
                raise ProtocolBroken(f"{_DOING}: two of its disks have the same {name}")
        return description


def _disk(fields: _Fields) -> DescribedDisk:
    return DescribedDisk(
        number=fields.number("number", 0, MAX_DISKS),
        key=fields.text("key"),
        device=fields.text("device", "", _LONG),
        capacity_bytes=fields.number("capacity_bytes", 0, MAX_CAPACITY_BYTES),
        controller=fields.text("controller", ""),
        is_boot=bool(fields.flag("is_boot")),
        is_blank=fields.flag("is_blank"),
        content=fields.text("content", "") if fields.has("content") else None,
    )


def _nic(fields: _Fields) -> DescribedNic:
    return DescribedNic(
        name=fields.text("name", ""),
        mac=fields.text("mac", ""),
        driver=fields.text("driver", ""),
        addresses=fields.texts("addresses", MAX_ADDRESSES),
    )


def _agent(fields: _Fields) -> DescribedAgent:
    return DescribedAgent(fields.text("version", ""), fields.number("port", 0, 65_535, 0))


def _plain(value: Any) -> Any:
    """Return what JSON would: lists for tuples, and no fields that are None."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items() if entry is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value


class _Fields:
    """The fields of one JSON object, each checked when it is read; null counts as missing.

    path: the object's name in errors; empty for the outermost one.
    """

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(path or "the whole", value, "an object")
        self._values = value
        self._path = path

    def has(self, name: str) -> bool:
        """Tell whether the field is present."""
        return self._values.get(name) is not None

    def text(self, name: str, default: str | None = None, longest: int = _SHORT) -> str:
        value = self._values.get(name)
        if value is None and default is not None:
            return default
        return _checked_text(self._named(name), value, longest)

    def word(self, name: str, words: Collection[str], default: str) -> str:
        value = self._values.get(name)
        if value is None:
            return default
        if not isinstance(value, str) or value not in words:
            raise self._wrong(name, f"one of {', '.join(filter(None, words))}")
        return value

    def number(self, name: str, lowest: int, highest: int, default: int | None = None) -> int:
        value = self._values.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise self._wrong(name, f"a number from {lowest} to {highest}")
        return value

    def flag(self, name: str) -> bool | None:
        value = self._values.get(name)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def object(self, name: str) -> _Fields:
        value = self._values.get(name)
        return _Fields({} if value is None else value, self._named(name))

    def objects(self, name: str, most: int) -> list[_Fields]:
        return [
            _Fields(entry, f"{self._named(name)}[{index}]")
            for index, entry in enumerate(self._list(name, most))
        ]

    def texts(self, name: str, most: int) -> tuple[str, ...]:
        return tuple(
            _checked_text(f"{self._named(name)}[{index}]", entry, _SHORT)
            for index, entry in enumerate(self._list(name, most))
        )

    def _list(self, name: str, most: int) -> list[Any]:
        value = self._values.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > most:
            raise self._wrong(name, f"a list of at most {most}")
        return value

    def _named(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def _wrong(self, name: str, expected: str) -> ProtocolBroken:
        return _wrong(self._named(name), self._values.get(name), expected)


def _checked_text(name: str, value: object, longest: int) -> str:
    if not isinstance(value, str) or len(value) > longest or not is_plain_text(value):
        raise _wrong(name, value, f"text of at most {longest} characters")
    return value


def _wrong(name: str, value: object, expected: str) -> ProtocolBroken:
    shown = "missing" if value is None else ascii(value)[:60]
    return ProtocolBroken(f"{_DOING}: {name} is {shown}, expected {expected}")
