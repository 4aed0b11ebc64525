"""Which of a lease's addresses each disk goes to, and whom to trust there."""

import hashlib
import ssl
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from vsphere.door import Door
from vsphere.errors import DisksUnmatched
from vsphere.spec import DiskPlace, VmDisk
from vsphere.tls import authority_context, pinned_context

HTTPS_PORT = 443


def match_disks(
    doing: str, offered: Sequence[Any], disks: Sequence[VmDisk], places: Mapping[int, DiskPlace]
) -> dict[int, Any]:
    """Return the device to send each disk to, by our number.

    The server names a disk by controller, bus and unit. Where it does not (some simulators), the
    order counts, if the disks' sizes can prove it afterwards.

    Raises:
        DisksUnmatched: it cannot be told which is which.
    """
    devices = [device for device in offered if device.disk]
    by_name: dict[str, list[Any]] = {}
    for device in devices:
        by_name.setdefault((device.importKey or device.key).rpartition("/")[2], []).append(device)
    matched = {
        number: by_name[place.import_name][0]
        for number, place in places.items()
        if len(by_name.get(place.import_name, ())) == 1
    }
    if len(matched) == len(places) == len(devices):
        return matched
    if len(devices) != len(places):
        raise DisksUnmatched(
            f"{doing}: the server wants {len(devices)} disks, the machine has {len(places)}. Look "
            "at the machine's controllers."
        )
    if len({disk.capacity_bytes for disk in disks}) != len(disks):
        raise DisksUnmatched(
            f"{doing}: the server does not say which disk is which ({', '.join(sorted(by_name))}), "
            "and two of them are of one size."
        )
    return dict(zip((disk.number for disk in disks), devices, strict=True))


def upload_address(device: Any, door: Door) -> tuple[str, ssl.SSLContext]:
    """Return where to send a disk to, and the context to connect with.

    A `*` stands for the host of the connection. What the server says of the host's certificate
    came over a connection that was checked, so it is as good as an authority's word.
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
