"""The objects of a placement, as they are in vSphere now."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vsphere.api import vim
from vsphere.errors import NoPermission, PlacementMissing, SpecRefused
from vsphere.faults import UnknownAnswer
from vsphere.inventory import is_uplink, network_kind, plain_name
from vsphere.properties import Properties, read, read_many
from vsphere.spec import Placement, distributed_backing, opaque_backing, standard_backing

log = logging.getLogger(__name__)


@dataclass
class Site:
    """The objects of a placement, with the properties read from them."""

    placement: Placement
    objects: dict[str, Any] = field(default_factory=dict)  # role → managed object
    of: dict[str, Properties] = field(default_factory=dict)  # role → properties
    compute: Any = None
    compute_of: Properties = field(default_factory=dict)
    hosts: dict[Any, Properties] = field(default_factory=dict)  # the hosts it may run on
    missing: list[str] = field(default_factory=list)

    @property
    def is_vapp(self) -> bool:
        """Tell whether the pool is a vApp, which keeps its machines itself, not in a folder."""
        return isinstance(self.objects.get("resource_pool"), vim.VirtualApp)

    def why_unable(self, of: Properties) -> str:
        """Return why a host, by its properties, cannot run the machine; empty if it can."""
        if of.get("runtime.connectionState") != "connected":
            return f"{of.get('name')} is not connected"
        if of.get("runtime.inMaintenanceMode"):
            return f"{of.get('name')} is in maintenance mode"
        if "datastore" in self.objects and self.objects["datastore"] not in of.get("datastore", ()):
            return f"{of.get('name')} does not see {self.name('datastore')}"
        return ""

    def able_versions(self) -> list[str]:
        """Return the versions of the hosts that can run the machine."""
        able = [of for of in self.hosts.values() if not self.why_unable(of)]
        return [of.get("summary.config.product.version", "") for of in able]

    def name(self, role: str) -> str:
        """Return an object's name for messages."""
        named = self.of.get(role, {}).get("name")
        return plain_name(named) if named else str(getattr(self.placement, role))


KINDS: dict[str, tuple[tuple[Any, str], ...]] = {
    "datacenter": ((vim.Datacenter, ""),),
    "resource_pool": ((vim.VirtualApp, "resgroup-v"), (vim.ResourcePool, "")),
    "host": ((vim.HostSystem, ""),),
    "datastore": ((vim.Datastore, ""),),
    "folder": ((vim.Folder, ""),),
    "network": (
        (vim.DistributedVirtualPortgroup, "dvportgroup"),
        (vim.OpaqueNetwork, "network-o"),
        (vim.Network, ""),
    ),
}
PATHS: dict[str, tuple[str, ...]] = {
    "datacenter": ("name", "vmFolder"),
    "resource_pool": ("name", "owner"),
    "host": ("name",),
    "datastore": (
        "name",
        "summary.accessible",
        "summary.maintenanceMode",
        "summary.freeSpace",
        "summary.capacity",
    ),
    "folder": ("name", "childType", "childEntity"),
    "network": ("name",),
}
HOST_PATHS = (
    "name",
    "runtime.connectionState",
    "runtime.inMaintenanceMode",
    "summary.config.product.version",
    "datastore",
    "network",
)


def find_object(
    content: Any, role: str, moid: str, paths: Sequence[str]
) -> tuple[Any, Properties] | None:
    """Return an object by its id and role, with properties, or none.

    An id alone does not tell whether a network is distributed, so each possible type is tried.
    """
    kinds = sorted(KINDS[role], key=lambda kind: not (kind[1] and moid.startswith(kind[1])))
    for kind, _ in kinds:
        target = kind(moid, content.rootFolder._stub)
        for found, properties in read_many(content, [target], {kind: paths}):
            if properties:
                return found, properties
    return None


def read_site(content: Any, placement: Placement, network_moids: Sequence[str] = ()) -> Site:
    """Read the objects of a placement; those that do not exist are listed in `missing`."""
    site = Site(placement)
    for role, paths in PATHS.items():
        if role == "folder" and site.is_vapp:
            continue
        moid = getattr(placement, role)
        if role == "folder" and not moid and "datacenter" in site.of:
            moid = site.of["datacenter"]["vmFolder"]._moId
        if not moid:
            continue
        found = find_object(content, role, moid, paths)
        if found is None:
            site.missing.append(role)
        else:
            site.objects[role], site.of[role] = found
    owner = site.of.get("resource_pool", {}).get("owner")
    if owner is not None:
        site.compute = owner
        site.compute_of = read(content, owner, ("name", "host", "network", "datastore"))
        wanted = (
            [site.objects["host"]] if "host" in site.objects else site.compute_of.get("host", [])
        )
        site.hosts = dict(read_many(content, wanted, {vim.HostSystem: HOST_PATHS}))
    return site


def require_site(site: Site, doing: str) -> Site:
    """Raise PlacementMissing if an object of the placement does not exist."""
    if site.missing:
        named = ", ".join(
            f"{role.replace('_', ' ')} {getattr(site.placement, role)}" for role in site.missing
        )
        raise PlacementMissing(
            f"{doing}: missing in vSphere: {named}. Choose again from what exists now."
        )
    return site


def network_backing(content: Any, moid: str, doing: str) -> Any:
    """Return the backing that connects an adapter to a network.

    Raises:
        PlacementMissing: it does not exist.
        SpecRefused: it is an uplink.
    """
    found = find_object(content, "network", moid, ("name",))
    if found is None:
        raise PlacementMissing(f"{doing}: network {moid} does not exist. Choose another.")
    network, properties = found
    kind = network_kind(network)
    if kind == "standard":
        return standard_backing(properties["name"], network)
    if kind == "opaque":
        of = read(content, network, ("summary",))
        return opaque_backing(of["summary"].opaqueNetworkId, of["summary"].opaqueNetworkType)
    of = read(content, network, ("key", "config.distributedVirtualSwitch", "tag"))
    name = plain_name(properties["name"])
    if is_uplink(of):
        raise SpecRefused(
            f"{doing}: {name} is an uplink of a switch, not a network for machines. Choose another."
        )
    switch = of.get("config.distributedVirtualSwitch")
    uuid = read(content, switch, ("uuid",)).get("uuid") if switch is not None else None
    if uuid is None:
        raise NoPermission(
            f"{doing}: the account lacks the privilege System.Read on the distributed switch of "
            f"the network {name}. Grant it."
        )
    return distributed_backing(of["key"], uuid)


def has_drs(content: Any, compute: Any) -> bool:
    """Tell whether a cluster chooses hosts for its machines and powers them on itself.

    Such are most clusters, so one whose settings nobody understands is taken for one: powering on
    through it falls back to the host.
    """
    if not isinstance(compute, vim.ClusterComputeResource):
        return False
    try:
        configuration = read(content, compute, ("configurationEx",)).get("configurationEx")
    except UnknownAnswer as error:
        log.warning("vsphere cluster settings unreadable moid=%s error=%s", compute._moId, error)
        return True
    drs = getattr(configuration, "drsConfig", None)
    return bool(drs is not None and drs.enabled)
