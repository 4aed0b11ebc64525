"""What VMware Tools report about a machine's guest."""

import ipaddress
from dataclasses import dataclass

from vsphere.properties import Properties, extra_config
from vsphere.spec import BOOT_ID_KEY

GUEST_PATHS = (
    "guest.ipAddress",
    "guest.hostName",
    "guest.toolsRunningStatus",
    "guest.net",
    "config.extraConfig",
)


@dataclass(frozen=True)
class Guest:
    """What the guest's tools report. Everything is unset until they run."""

    address: str | None
    hostname: str | None
    tools_running: bool
    boot_id: str | None


def read_guest(of: Properties, mac: str | None) -> Guest:
    """Read the guest from a machine's properties; `mac` limits its address to one adapter."""
    return Guest(
        address=choose_address(of, mac),
        hostname=of.get("guest.hostName") or None,
        tools_running=of.get("guest.toolsRunningStatus") == "guestToolsRunning",
        boot_id=extra_config(of).get(BOOT_ID_KEY) or None,
    )


def choose_address(of: Properties, mac: str | None) -> str | None:
    """Return the address to reach the guest at, IPv4 preferred; `mac` limits it to one adapter."""
    found: list[str] = []
    for nic in of.get("guest.net", ()):
        if mac and (nic.macAddress or "").lower() != mac.lower():
            continue
        configured = nic.ipConfig.ipAddress if nic.ipConfig else ()
        found += [
            one.ipAddress for one in configured if one.state in (None, "preferred", "unknown")
        ]
        if not configured:
            found += nic.ipAddress or ()
    if not mac and not found and of.get("guest.ipAddress"):
        found.append(of["guest.ipAddress"])
    usable = [address for address in found if _is_usable(address)]
    return min(usable, key=lambda address: ":" in address, default=None)


def _is_usable(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (parsed.is_link_local or parsed.is_unspecified or parsed.is_multicast)
