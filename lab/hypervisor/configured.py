"""A virtual machine as configured in vCenter, as far as this lab needs it."""

import json
import re
from dataclasses import dataclass
from typing import Any

from pyVmomi import vim

CONTROLLERS = (
    (vim.vm.device.ParaVirtualSCSIController, "pvscsi"),
    (vim.vm.device.VirtualLsiLogicSASController, "lsilogicsas"),
    (vim.vm.device.VirtualLsiLogicController, "lsilogic"),
    (vim.vm.device.VirtualBusLogicController, "buslogic"),
    (vim.vm.device.VirtualAHCIController, "sata"),
    (vim.vm.device.VirtualNVMEController, "nvme"),
    (vim.vm.device.VirtualIDEController, "ide"),
)
ADAPTERS = (
    (vim.vm.device.VirtualVmxnet3, "vmxnet3"),
    (vim.vm.device.VirtualE1000e, "e1000e"),
    (vim.vm.device.VirtualE1000, "e1000"),
    (vim.vm.device.VirtualPCNet32, "pcnet32"),
)
PLAIN_KEY = re.compile("[0-9A-Za-z][0-9A-Za-z-]*")
PROPERTIES = (
    "name",
    "runtime.powerState",
    "config.uuid",
    "config.instanceUuid",
    "config.firmware",
    "config.extraConfig",
    "config.guestId",
    "config.hardware",
)


@dataclass(frozen=True)
class ConfiguredDisk:
    """A virtual disk; `number` is its position among the machine's disks, as in uploads."""

    number: int
    capacity_bytes: int
    controller: str
    bus: int
    unit: int


@dataclass(frozen=True)
class ConfiguredVm:
    """A virtual machine in vCenter. `key` identifies it permanently, `moid` within one vCenter."""

    moid: str
    key: str
    name: str
    is_powered_on: bool
    cpus: int
    memory_bytes: int
    firmware: str
    disks: tuple[ConfiguredDisk, ...]
    nics: tuple[tuple[str, str | None], ...]
    # How often each act was requested, counted by the simulator.
    reboot_requests: int
    reset_requests: int
    shutdown_requests: int
    guest_id: str
    # The creator's entries in its extra configuration.
    extra: dict[str, str]

    @classmethod
    def from_json(cls, text: str) -> "ConfiguredVm":
        """Read back what `json.dumps(asdict(vm))` wrote.

        Raises:
            ValueError, TypeError, KeyError: the text is something else.
        """
        fields = json.loads(text)
        fields["disks"] = tuple(ConfiguredDisk(**disk) for disk in fields["disks"])
        fields["nics"] = tuple((model, mac) for model, mac in fields["nics"])
        return cls(**fields)


def read_vm(moid: str, properties: dict[str, Any]) -> ConfiguredVm:
    """Turn vCenter's properties into a configured machine.

    Raises:
        KeyError, AttributeError, TypeError, ValueError: something is missing or malformed.
    """
    hardware = properties["config.hardware"]
    options = {
        option.key: str(option.value) for option in properties.get("config.extraConfig") or ()
    }
    key = properties.get("config.instanceUuid") or properties.get("config.uuid") or moid
    if not PLAIN_KEY.fullmatch(key):
        raise ValueError(f"its id {key!r} cannot be the name of a folder")
    devices = list(hardware.device)
    return ConfiguredVm(
        moid=moid,
        key=key,
        name=properties["name"],
        is_powered_on=properties["runtime.powerState"] == "poweredOn",
        cpus=hardware.numCPU,
        memory_bytes=hardware.memoryMB << 20,
        firmware=properties.get("config.firmware") or "bios",
        disks=_disks(devices),
        nics=tuple(
            (_word(device, ADAPTERS), getattr(device, "macAddress", None) or None)
            for device in devices
            if isinstance(device, vim.vm.device.VirtualEthernetCard)
        ),
        reboot_requests=int(options.get("lab.reboot_request", 0)),
        reset_requests=int(options.get("lab.reset_request", 0)),
        shutdown_requests=int(options.get("lab.shutdown_request", 0)),
        guest_id=properties.get("config.guestId") or "otherLinux64Guest",
        extra={key: value for key, value in options.items() if key.startswith("understudy.")},
    )


def _disks(devices: list[Any]) -> tuple[ConfiguredDisk, ...]:
    by_key = {device.key: device for device in devices}
    disks = [device for device in devices if isinstance(device, vim.vm.device.VirtualDisk)]
    found = []
    for number, device in enumerate(disks):
        controller = by_key[device.controllerKey]
        found.append(
            ConfiguredDisk(
                number=number,
                capacity_bytes=getattr(device, "capacityInBytes", None)
                or device.capacityInKB * 1024,
                controller=_word(controller, CONTROLLERS),
                bus=controller.busNumber,
                unit=device.unitNumber,
            )
        )
    return tuple(found)


def _word(device: Any, words: tuple[tuple[type, str], ...]) -> str:
    for kind, word in words:
        if isinstance(device, kind):
            return word
    return type(device).__name__
