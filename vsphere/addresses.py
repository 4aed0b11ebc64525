"""Match disks to the upload addresses of a lease, and decide which certificate to trust."""

import hashlib
import ssl
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from vsphere.door import Door
from vsphere.errors import DisksUnmatched
from vsphere.spec import DiskSlot, VmDisk
from vsphere.tls import authority_context, pinned_context

HTTPS_PORT = 443


def match_disks(
    doing: str, offered: Sequence[Any], disks: Sequence[VmDisk], slots: Mapping[int, DiskSlot]
) -> dict[int, Any]:
    """Return the device that each disk, by its number, is sent to.

    The server names a disk by controller, bus and unit. Where it does not (some simulators), the
    order decides, provided that different sizes can prove it afterwards.

    Raises:
        DisksUnmatched: the disks cannot be told apart.
    """
    devices = [device for device in offered if device.disk]
    by_name: dict[str, list[Any]] = {}
    for device in devices:
        by_name.setdefault((device.importKey or device.key).rpartition("/")[2], []).append(device)
    matched = {
        number: by_name[slot.import_name][0]
        for number, slot in slots.items()
        if len(by_name.get(slot.import_name, ())) == 1
    }
    if len(matched) == len(slots) == len(devices):
        return matched
    if len(devices) != len(slots):
        raise DisksUnmatched(
            f"{doing}: the server expects {len(devices)} disks, but the machine has "
            f"{len(slots)}. Check the machine's controllers."
        )
    if len({disk.capacity_bytes for disk in disks}) != len(disks):
        raise DisksUnmatched(
            f"{doing}: the server does not say which disk is which ({', '.join(sorted(by_name))}), "
            "and two of them have the same size."
        )
    return dict(zip((disk.number for disk in disks), devices, strict=True))


def upload_address(device: Any, door: Door) -> tuple[str, ssl.SSLContext]:
    """Return where to send a disk, and the TLS context to connect with.

    A `*` means the host of the session. The host's certificate or thumbprint arrived over a
    verified connection, so it can be pinned.
    """
    ours = door.credentials
    parts = urlsplit(device.url)
    host, port = parts.hostname or "", parts.port
    if host == "*":
        host, port = ours.host, port or ours.port
    shown = f"[{host}]" if ":" in host else host
    address = urlunsplit(("https", f"{shown}:{port or HTTPS_PORT}", parts.path, parts.query, ""))
    certificate = getattr(device, "sslCertificate", None)
    if certificate:
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()
        return address, pinned_context([digest])
    if device.sslThumbprint:
        return address, pinned_context([device.sslThumbprint])
    if host == ours.host:
        return address, door.context
    return address, authority_context(ours.ca_path)
