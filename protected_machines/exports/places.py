"""Where a VM can go: the choices in the export dialog, from a vCenter's inventory. Pure."""

from dataclasses import dataclass

from console.findings import Finding
from vsphere.inventory import Inventory

MOST_NAMED = 8
Choice = tuple[str, str]


@dataclass(frozen=True)
class Places:
    """The choices in one datacenter, each a managed object id and a text."""

    datacenters: list[Choice]
    # Resource pools as "pool:<id>", single hosts as "host:<id>:<pool>".
    computes: list[Choice]
    # Folders for VMs: the datacenter's own first, if the account may see it.
    folders: list[Choice]
    datastores: list[Choice]
    networks: list[Choice]


def places_in(inventory: Inventory, datacenter: str = "") -> Places:
    """Return the choices in the datacenter, or in the first one if none is named."""
    datacenters = [(entry.moid, entry.name) for entry in inventory.datacenters]
    chosen = datacenter or (datacenters[0][0] if datacenters else "")
    return Places(
        datacenters=datacenters,
        computes=_computes(inventory, chosen),
        folders=_folders(inventory, chosen),
        datastores=_datastores(inventory, chosen),
        networks=[
            (entry.moid, entry.name)
            for entry in inventory.networks
            if entry.datacenter == chosen and not entry.is_uplink
        ],
    )


def check_readable(inventory: Inventory, datacenter: str) -> list[Finding]:
    """Return what the account may see but not read, so that it is not offered."""
    unread = [one for one in inventory.unreadable if one.datacenter in ("", datacenter)]
    if not unread:
        return []
    named = [f"{one.kind} {one.name} ({one.privilege})" for one in unread[:MOST_NAMED]]
    if len(unread) > MOST_NAMED:
        named.append(f"{len(unread) - MOST_NAMED} others")
    text = (
        f"The account may not read: {', '.join(named)}. It lacks the privileges in brackets there, "
        "so this, and what depends on it, is not offered."
    )
    return [Finding.warning("PLACEMENT-UNREADABLE", text)]


def _computes(inventory: Inventory, datacenter: str) -> list[Choice]:
    clusters = {entry.moid: entry for entry in inventory.clusters if entry.datacenter == datacenter}
    hosts = {entry.moid: entry for entry in inventory.hosts if entry.datacenter == datacenter}
    pools = []
    for pool in inventory.resource_pools:
        cluster = clusters.get(pool.cluster)
        if cluster is None or pool.is_vapp:
            continue
        text = cluster.name if pool.is_root else f"{cluster.name} / {pool.name}"
        pools.append((f"pool:{pool.moid}", text))
    singles = [
        (f"host:{host.moid}:{clusters[host.cluster].resource_pool}", f"{host.name} (this host)")
        for host in hosts.values()
        if host.is_connected and not host.is_in_maintenance and host.cluster in clusters
    ]
    return pools + singles


def _folders(inventory: Inventory, datacenter: str) -> list[Choice]:
    own = next((entry for entry in inventory.datacenters if entry.moid == datacenter), None)
    if own is None:
        return []
    folders = [entry for entry in inventory.folders if entry.datacenter == datacenter]
    folders.sort(key=lambda entry: entry.moid != own.folder)
    return [(entry.moid, entry.path.removeprefix(f"{own.path}/")) for entry in folders]


def _datastores(inventory: Inventory, datacenter: str) -> list[Choice]:
    usable = [
        entry
        for entry in inventory.datastores
        if entry.datacenter == datacenter and entry.is_accessible and not entry.is_in_maintenance
    ]
    usable.sort(key=lambda entry: -entry.free_bytes)
    return [(entry.moid, f"{entry.name} ({_gib(entry.free_bytes)} free)") for entry in usable]


def _gib(count_bytes: int) -> str:
    return f"{count_bytes / 1024**3:,.0f} GiB"


def split_compute(choice: str) -> tuple[str, str]:
    """Return the resource pool and the host (empty: any) of an entry of `computes`.

    Raises:
        ValueError: it is not one.
    """
    kind, _, rest = choice.partition(":")
    if kind == "pool" and rest:
        return rest, ""
    host, _, pool = rest.partition(":")
    if kind == "host" and host and pool:
        return pool, host
    raise ValueError(f"{choice!r} is neither a resource pool nor a host")
