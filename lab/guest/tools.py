"""The machine's guest tools: tell the hypervisor about the machine, and do what it asks.

They send a JSON line every two seconds on the second serial port, and obey the lines `reboot` and
`shutdown`. They run inside the guest and import nothing of the project.
"""

import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import sys
import termios
import time
import tty
from pathlib import Path

INTERVAL_SECONDS = 2.0
SIOCGIFADDR = 0x8915
ACTS = {b"reboot": "reboot", b"shutdown": "poweroff"}


def find_address(interface: str) -> str | None:
    """Return the IPv4 address of an interface, or none while it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("256s", interface.encode()[:15])
        try:
            answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, request)
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])


def drivers() -> list[str]:
    """Return the names of the drivers of network interfaces and disk controllers."""
    found = set()
    for link in (*Path("/sys/class/net").glob("*/device/driver"), *_controller_drivers()):
        found.add(link.resolve().name)
    return sorted(found)


def _controller_drivers() -> list[Path]:
    links = []
    for host in Path("/sys/class/scsi_host").glob("*"):
        for parent in host.resolve().parents:
            if (parent / "driver").exists():
                links.append(parent / "driver")
                break
    return [*links, *Path("/sys/block").glob("vd*/device/driver")]


def describe() -> dict[str, object]:
    """Return what the hypervisor needs to know about this machine."""
    interfaces = [path.name for path in Path("/sys/class/net").iterdir() if path.name != "lo"]
    addresses = [address for name in interfaces if (address := find_address(name))]
    return {
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "hostname": socket.gethostname(),
        "addresses": addresses,
        "drivers": drivers(),
        "clock": time.time(),
        "uptime": float(Path("/proc/uptime").read_text().split()[0]),
    }


def run(port_path: str) -> None:
    """Talk on the serial port forever."""
    port = os.open(port_path, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(port, termios.TCSANOW)
    asked = b""
    while True:
        os.write(port, json.dumps(describe()).encode() + b"\n")
        wake_at = time.monotonic() + INTERVAL_SECONDS
        while (left := wake_at - time.monotonic()) > 0:
            if not select.select([port], [], [], left)[0]:
                break
            asked = (asked + os.read(port, 256))[-256:]
            *lines, asked = asked.split(b"\n")
            for line in lines:
                if act := ACTS.get(line.strip()):
                    subprocess.run(["systemctl", "--no-block", act], check=False, timeout=60)


if __name__ == "__main__":
    run(sys.argv[1])
