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
    """Return the address to reach the guest at; `mac` limits it to one adapter.

    It is what VMware Tools take for the guest's own, if that is on one of the machine's adapters,
    else preferably IPv4. Bridges of containers, tunnels and the like have no adapter.
    """
    told = of.get("guest.ipAddress")
    found: list[str] = []
    for nic in of.get("guest.net", ()):
        if nic.deviceConfigId < 0:
            continue
        if mac and (nic.macAddress or "").lower() != mac.lower():
            continue
        configured = nic.ipConfig.ipAddress if nic.ipConfig else ()
        found += [
            one.ipAddress for one in configured if one.state in (None, "preferred", "unknown")
        ]
        if not configured:
            found += nic.ipAddress or ()
    if told and not mac and not of.get("guest.net"):
        found.append(told)
    usable = [address for address in found if _is_usable(address)]
    if told in usable:
        return str(told)
    return min(usable, key=lambda address: ":" in address, default=None)


def _is_usable(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (parsed.is_link_local or parsed.is_unspecified or parsed.is_multicast)
