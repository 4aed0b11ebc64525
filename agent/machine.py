"""Describe the machine: what a virtual machine needs to replace it, and to boot.

Everything is read from /proc and /sys, which are the same on every distribution and need no extra
process. Only listing the drivers in the initramfs takes a command. It runs in the background, once
for each new initramfs.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import logging
import os
import platform
import shlex
import socket
import struct
import subprocess
import threading
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_SIOCGIFADDR = 0x8915
_LSINITRAMFS_SECONDS = 300
_DRIVERS_WAIT_SECONDS = 20
_MEMORY_STEP_BYTES = 64 * 1024 * 1024


def describe_machine(
    sys_root: Path = Path("/sys"), proc_root: Path = Path("/proc")
) -> dict[str, Any]:
    """Return hostname, operating system, firmware, boot id, processors, memory and NICs."""
    return {
        "hostname": socket.gethostname(),
        "os": _operating_system(),
        "kernel": platform.release(),
        "firmware": "efi" if (sys_root / "firmware/efi").exists() else "bios",
        "boot_id": boot_id(proc_root),
        "cpus": os.cpu_count() or 1,
        "sockets": _sockets(sys_root),
        "memory_bytes": _memory_bytes(sys_root, proc_root),
        "nics": _nics(sys_root, proc_root),
    }


def boot_id(proc_root: Path = Path("/proc")) -> str:
    """Return what changes with every start of the kernel."""
    return (proc_root / "sys/kernel/random/boot_id").read_text().strip()


def announced_addresses() -> list[str]:
    """Return the addresses of the network cards that another computer may reach."""
    found = [
        ipaddress.ip_address(address)
        for nic in _nics(Path("/sys"), Path("/proc"))
        for address in nic["addresses"]
    ]
    return [str(address) for address in found if not address.is_link_local]


def _operating_system() -> str:
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return platform.system()
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    return "".join(shlex.split(values.get("PRETTY_NAME", "Linux"))[:1])


def _sockets(sys_root: Path) -> int:
    """Return how many sockets the processors are in; 0 if the kernel does not know."""
    paths = (sys_root / "devices/system/cpu").glob("cpu[0-9]*/topology/physical_package_id")
    try:
        packages = {int(path.read_text()) for path in paths}
    except (OSError, ValueError):
        return 0
    return len(packages) if min(packages, default=-1) >= 0 else 0


def _memory_bytes(sys_root: Path, proc_root: Path) -> int:
    """Return the installed memory, which is more than the kernel reports as usable."""
    blocks = sys_root / "devices/system/memory"
    try:
        block_bytes = int((blocks / "block_size_bytes").read_text(), 16)
        count = sum(
            (block / "online").read_text().strip() == "1" for block in blocks.glob("memory[0-9]*")
        )
    except (OSError, ValueError):
        count = 0
    if count:
        return block_bytes * count
    for line in (proc_root / "meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            usable_bytes = int(line.split()[1]) * 1024
            return -(-usable_bytes // _MEMORY_STEP_BYTES) * _MEMORY_STEP_BYTES
    return 0


def ipv4_addresses() -> list[str]:
    """Return the IPv4 addresses of this machine's network cards."""
    folders = sorted(Path("/sys/class/net").iterdir())
    names = [folder.name for folder in folders if (folder / "device").exists()]
    return [address for name in names for address in _ipv4_addresses(name)]


def _nics(sys_root: Path, proc_root: Path) -> list[dict[str, Any]]:
    nics = []
    for folder in sorted((sys_root / "class/net").iterdir()):
        if not (folder / "device").exists():  # loopback, bridges and other software
            continue
        driver = folder / "device/driver"
        nics.append(
            {
                "name": folder.name,
                "mac": (folder / "address").read_text().strip(),
                "driver": driver.resolve().name if driver.exists() else "",
                "addresses": _ipv4_addresses(folder.name) + _ipv6_addresses(proc_root, folder.name),
            }
        )
    return nics


def _ipv4_addresses(name: str) -> list[str]:
    request = struct.pack("256s", name.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
        except OSError:  # no address
            return []
    return [socket.inet_ntoa(answer[20:24])]


def _ipv6_addresses(proc_root: Path, name: str) -> list[str]:
    try:
        lines = (proc_root / "net/if_inet6").read_text().splitlines()
    except OSError:
        return []
    fields = [line.split() for line in lines]
    return [
        socket.inet_ntop(socket.AF_INET6, bytes.fromhex(field[0]))
        for field in fields
        if len(field) == 6 and field[5] == name
    ]


class InitramfsDrivers:
    """The kernel modules in the running kernel's initramfs.

    Listing them takes seconds, so it runs in the background. The state folder keeps the list until
    the initramfs changes.
    """

    def __init__(self, state_folder: Path, boot_folder: Path = Path("/boot")) -> None:
        self._cache_path = state_folder / "initramfs-drivers.json"
        self._image_path = boot_folder / f"initrd.img-{platform.release()}"
        self._drivers: list[str] = []
        self._is_known = threading.Event()

    def start(self) -> None:
        """Start listing in the background."""
        threading.Thread(target=self._list, name="initramfs", daemon=True).start()

    def get(self) -> list[str]:
        """Return the drivers; an empty list if they cannot be determined."""
        self._is_known.wait(_DRIVERS_WAIT_SECONDS)
        return self._drivers

    def _list(self) -> None:
        try:
            self._drivers = self._cached() or self._read()
        finally:
            self._is_known.set()

    def _identity(self) -> list[Any]:
        status = self._image_path.stat()
        return [str(self._image_path), status.st_size, status.st_mtime_ns]

    def _cached(self) -> list[str]:
        try:
            cache = json.loads(self._cache_path.read_text())
            return list(cache["drivers"]) if cache["image"] == self._identity() else []
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def _read(self) -> list[str]:
        try:
            identity = self._identity()
            done = subprocess.run(
                ["nice", "lsinitramfs", str(self._image_path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_LSINITRAMFS_SECONDS,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            text = error.output.decode(errors="replace").strip()[-500:]
            log.warning("initramfs not listed status=%d output=%s", error.returncode, text)
            return []
        except (OSError, subprocess.TimeoutExpired) as error:
            log.info("initramfs not listed reason=%s", error)
            return []
        drivers = module_names(done.stdout.decode(errors="replace"))
        self._cache_path.write_text(json.dumps({"image": identity, "drivers": drivers}))
        return drivers


def module_names(listing: str) -> list[str]:
    """Return the kernel modules in a list of files: sorted names, with underscores for dashes."""
    files = (line.rsplit("/", 1)[-1] for line in listing.splitlines())
    return sorted({file.split(".ko", 1)[0].replace("-", "_") for file in files if ".ko" in file})
