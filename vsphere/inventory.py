"""The inventory of a vSphere as plain data, read page by page."""

import logging
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from vsphere.api import vim
from vsphere.properties import Properties, read_inventory

log = logging.getLogger(__name__)

NORMAL = "normal"


@dataclass(frozen=True)
class Datacenter:
    """A datacenter; `folder` is the root folder of its virtual machines."""

    moid: str
    name: str
    path: str
    folder: str


@dataclass(frozen=True)
class Folder:
    """A folder for virtual machines."""

    moid: str
    name: str
    path: str
    datacenter: str


@dataclass(frozen=True)
class Cluster:
    """A cluster, or the compute resource around a single host (`is_cluster` false)."""

    moid: str
    name: str
    path: str
    datacenter: str
    is_cluster: bool
    resource_pool: str
    hosts: tuple[str, ...]
    datastores: tuple[str, ...]
    networks: tuple[str, ...]


@dataclass(frozen=True)
class Host:
    """An ESXi host."""

    moid: str
    name: str
    path: str
    datacenter: str
    cluster: str
    is_connected: bool
    is_in_maintenance: bool
    version: str
    datastores: tuple[str, ...]
    networks: tuple[str, ...]


@dataclass(frozen=True)
class ResourcePool:
    """A resource pool, a vApp, or the invisible root pool of a cluster or host."""

    moid: str
    name: str
    path: str
    datacenter: str
    cluster: str
    is_root: bool
    is_vapp: bool


@dataclass(frozen=True)
class Datastore:
    """A datastore."""

    moid: str
    name: str
    path: str
    datacenter: str
    kind: str
    capacity_bytes: int
    free_bytes: int
    is_accessible: bool
    is_in_maintenance: bool


@dataclass(frozen=True)
class Network:
    """A network; machines can connect to it unless it is an uplink."""

    moid: str
    name: str
    path: str
    datacenter: str
    kind: str  # standard, distributed or opaque
    is_uplink: bool


@dataclass(frozen=True)
class VirtualMachine:
    """A virtual machine as an entry of a list."""

    moid: str
    name: str
    path: str
    datacenter: str
    power_state: str


@dataclass(frozen=True)
class Unreadable:
    """An object that the account may see but not read, so that it is missing from its list.

    kind: for people, as in "distributed switch".
    """

    moid: str
    name: str
    path: str
    datacenter: str
    kind: str
    privilege: str


@dataclass(frozen=True)
class Inventory:
    """The whole inventory. Each list is sorted by path."""

    datacenters: tuple[Datacenter, ...] = ()
    folders: tuple[Folder, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    hosts: tuple[Host, ...] = ()
    resource_pools: tuple[ResourcePool, ...] = ()
    datastores: tuple[Datastore, ...] = ()
    networks: tuple[Network, ...] = ()
    virtual_machines: tuple[VirtualMachine, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()


def plain_name(name: str) -> str:
    """Return a name as it was entered; the server escapes `/`, `\\` and `%`."""
    return unquote(name)


PATHS: dict[Any, tuple[str, ...]] = {
    vim.Datacenter: ("name", "parent", "vmFolder"),
    vim.Folder: ("name", "parent", "childType"),
    vim.ComputeResource: ("name", "parent", "resourcePool", "host", "datastore", "network"),
    vim.HostSystem: (
        "name",
        "parent",
        "datastore",
        "network",
        "runtime.connectionState",
        "runtime.inMaintenanceMode",
        "summary.config.product.version",
    ),
    vim.ResourcePool: ("name", "parent", "owner"),
    vim.Datastore: (
        "name",
        "parent",
        "summary.type",
        "summary.capacity",
        "summary.freeSpace",
        "summary.accessible",
        "summary.maintenanceMode",
    ),
    vim.Network: ("name", "parent"),
    vim.DistributedVirtualPortgroup: ("config.uplink", "tag"),
    vim.StoragePod: ("name", "parent"),
    vim.DistributedVirtualSwitch: ("name", "parent", "uuid"),
}
ONLY_IN_VCENTER = (
    vim.DistributedVirtualPortgroup,
    vim.DistributedVirtualSwitch,
    vim.StoragePod,
)
# Subclasses come before their base classes.
KIND_NAMES: tuple[tuple[Any, str], ...] = (
    (vim.Datacenter, "datacenter"),
    (vim.StoragePod, "datastore cluster"),
    (vim.Folder, "folder"),
    (vim.ComputeResource, "cluster"),
    (vim.HostSystem, "host"),
    (vim.ResourcePool, "resource pool"),
    (vim.Datastore, "datastore"),
    (vim.Network, "network"),
    (vim.DistributedVirtualSwitch, "distributed switch"),
    (vim.VirtualMachine, "virtual machine"),
)
MACHINE_PATHS = ("name", "parent", "runtime.powerState")


@dataclass
class _Reader:
    """Collects all objects first, because a path needs every parent."""

    root_moid: str
    found: dict[str, tuple[Any, Properties]] = field(default_factory=dict)
    # What the account may see but not read: known only as a part of others' paths.
    refusals: dict[str, Any] = field(default_factory=dict)

    def parent_moid(self, moid: str) -> str:
        parent = self.found[moid][1].get("parent")
        return parent._moId if parent is not None else ""

    def above(self, moid: str, kind: Any) -> str:
        """Return the nearest ancestor of a kind, or ""."""
        while moid := self.parent_moid(moid) if moid in self.found else "":
            if moid in self.found and isinstance(self.found[moid][0], kind):
                return moid
        return ""

    def path(self, moid: str) -> str:
        names = []
        while moid in self.found:
            names.append(plain_name(self.found[moid][1].get("name", moid)))
            moid = self.parent_moid(moid)
        return "/" + "/".join(reversed(names))

    def named(self, moid: str) -> dict[str, str]:
        name = plain_name(self.found[moid][1].get("name", moid))
        return {"moid": moid, "name": name, "path": self.path(moid)}

    def placed(self, moid: str) -> dict[str, str]:
        return {**self.named(moid), "datacenter": self.above(moid, vim.Datacenter)}


def _moids(references: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(reference._moId for reference in references or ()))


def read_all(content: Any, *, with_virtual_machines: bool = False) -> Inventory:
    """Read the inventory, the virtual machines only on request."""
    paths = dict(PATHS)
    if content.about.apiType != "VirtualCenter":
        for kind in ONLY_IN_VCENTER:
            del paths[kind]
    if with_virtual_machines:
        paths[vim.VirtualMachine] = MACHINE_PATHS
    reader = _Reader(content.rootFolder._moId)
    for one in read_inventory(content, content.rootFolder, paths):
        moid = one.target._moId
        known = reader.found.get(moid)
        if known:  # reported for two of the requested types
            known[1].update(one.properties)
        else:
            reader.found[moid] = (one.target, one.properties)
        if one.refusal is not None:
            reader.refusals[moid] = one.refusal
    inventory = _build(reader)
    for moid, refusal in reader.refusals.items():
        log.warning("vsphere left out moid=%s privilege=%s", moid, refusal.privilegeId)
        if not inventory.datacenters:  # an account without rights is no empty vSphere
            raise refusal
    return inventory


def _build(reader: _Reader) -> Inventory:
    lists: dict[str, list[Any]] = {name: [] for name in Inventory.__dataclass_fields__}
    for moid, (target, properties) in reader.found.items():
        made = None if moid in reader.refusals else _make(reader, moid, target, properties)
        if made is not None:
            lists[made[0]].append(made[1])
    lists["unreadable"] = [_unreadable(reader, moid) for moid in reader.refusals]
    return Inventory(
        **{
            name: tuple(sorted(entries, key=lambda one: one.path))
            for name, entries in lists.items()
        }
    )


def _unreadable(reader: _Reader, moid: str) -> Unreadable:
    target = reader.found[moid][0]
    kind = next((name for known, name in KIND_NAMES if isinstance(target, known)), "object")
    privilege = reader.refusals[moid].privilegeId or "System.Read"
    return Unreadable(**reader.placed(moid), kind=kind, privilege=privilege)


def _make(reader: _Reader, moid: str, target: Any, of: Properties) -> tuple[str, Any] | None:
    if isinstance(target, vim.Datacenter):
        return "datacenters", Datacenter(**reader.named(moid), folder=of["vmFolder"]._moId)
    if isinstance(target, vim.StoragePod):
        return None
    if isinstance(target, vim.Folder):
        if "VirtualMachine" not in str(of.get("childType", ())):
            return None
        return "folders", Folder(**reader.placed(moid))
    if isinstance(target, vim.ComputeResource):
        return "clusters", Cluster(
            **reader.placed(moid),
            is_cluster=isinstance(target, vim.ClusterComputeResource),
            resource_pool=of["resourcePool"]._moId if of.get("resourcePool") else "",
            hosts=_moids(of.get("host")),
            datastores=_moids(of.get("datastore")),
            networks=_moids(of.get("network")),
        )
    if isinstance(target, vim.HostSystem):
        return "hosts", Host(
            **reader.placed(moid),
            cluster=reader.above(moid, vim.ComputeResource),
            is_connected=of.get("runtime.connectionState") == "connected",
            is_in_maintenance=bool(of.get("runtime.inMaintenanceMode")),
            version=of.get("summary.config.product.version", ""),
            datastores=_moids(of.get("datastore")),
            networks=_moids(of.get("network")),
        )
    if isinstance(target, vim.ResourcePool):
        return "resource_pools", ResourcePool(
            **reader.placed(moid),
            cluster=reader.above(moid, vim.ComputeResource),
            is_root=not isinstance(of.get("parent"), vim.ResourcePool),
            is_vapp=isinstance(target, vim.VirtualApp),
        )
    if isinstance(target, vim.Datastore):
        return "datastores", Datastore(
            **reader.placed(moid),
            kind=of.get("summary.type", ""),
            capacity_bytes=of.get("summary.capacity", 0),
            free_bytes=of.get("summary.freeSpace", 0),
            is_accessible=bool(of.get("summary.accessible")),
            is_in_maintenance=of.get("summary.maintenanceMode", NORMAL) != NORMAL,
        )
    if isinstance(target, vim.Network):
        return "networks", Network(
            **reader.placed(moid), kind=network_kind(target), is_uplink=is_uplink(of)
        )
    if isinstance(target, vim.VirtualMachine):
        return "virtual_machines", VirtualMachine(
            **reader.placed(moid), power_state=str(of.get("runtime.powerState", ""))
        )
    return None


def network_kind(network: Any) -> str:
    """Return standard, distributed or opaque."""
    if isinstance(network, vim.DistributedVirtualPortgroup):
        return "distributed"
    return "opaque" if isinstance(network, vim.OpaqueNetwork) else "standard"


def is_uplink(properties: Properties) -> bool:
    """Tell whether a port group serves hosts' physical adapters, by its field or its tag."""
    tags = [tag.key for tag in properties.get("tag") or ()]
    return bool(properties.get("config.uplink")) or "SYSTEM/DVS.UPLINKPG" in tags
