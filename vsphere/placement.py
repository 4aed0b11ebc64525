"""Checks a placement before anything is made there."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from vsphere.api import vim
from vsphere.faults import UNSUPPORTED, UnknownAnswer, describe
from vsphere.inventory import NORMAL, is_uplink, plain_name
from vsphere.privileges import needed_on
from vsphere.properties import read, read_many
from vsphere.site import Site, find_object, has_drs, read_site
from vsphere.spec import Placement, VmSpace

PORT_PATHS = ("key", "config.type", "config.autoExpand", "config.distributedVirtualSwitch")
SPARE_SHARE = 0.05  # of a datastore, that should stay free
SECTOR_BYTES = 512
DISK_STEPS = {"VVOL": 1 << 20}  # by the type of a datastore


@dataclass(frozen=True)
class PlacementFinding:
    """A problem with a placement. An error will make the import fail."""

    code: str
    severity: Literal["error", "warning"]
    text: str


def check(
    content: Any, placement: Placement, vm_name: str, space: VmSpace
) -> list[PlacementFinding]:
    """Return the problems with making `vm_name` there, which takes that space."""
    site = read_site(content, placement)
    findings = _check_missing(site, site.missing)
    findings += _check_name(content, site, vm_name)
    findings += check_datastore(site, space)
    findings += check_hosts(content, site)
    elsewhere = Counter(moid for moid in placement.more_networks if moid != placement.network)
    findings += check_network(content, site, space.adapters - elsewhere.total())
    findings += _check_privileges(content, site)
    for moid, adapters in elsewhere.items():
        findings += _check_further_network(content, replace(placement, network=moid), adapters)
    return findings


def _check_further_network(
    content: Any, placement: Placement, adapters: int
) -> list[PlacementFinding]:
    site = read_site(content, placement)
    others = [role for role in site.objects if role != "network"]
    findings = _check_missing(site, ["network"]) + check_network(content, site, adapters)
    for role in others:
        del site.objects[role]
    return findings + _check_privileges(content, site)


def _check_missing(site: Site, roles: Sequence[str]) -> list[PlacementFinding]:
    return [
        PlacementFinding(
            "PLACEMENT-MISSING",
            "error",
            f"The {role.replace('_', ' ')} {getattr(site.placement, role)} no longer exists.",
        )
        for role in roles
        if role in site.missing
    ]


def _check_name(content: Any, site: Site, vm_name: str) -> list[PlacementFinding]:
    if site.is_vapp:
        where = f"vApp {site.name('resource_pool')}"
        entities = read(content, site.objects["resource_pool"], ("vm",)).get("vm", ())
    else:
        where = f"folder {site.name('folder')}"
        entities = site.of.get("folder", {}).get("childEntity", ())
    children = [child for child in entities if isinstance(child, vim.VirtualMachine)]
    for child, of in read_many(content, children, {vim.VirtualMachine: ("name",)}):
        if plain_name(of.get("name", "")) == vm_name:
            return [
                PlacementFinding(
                    "PLACEMENT-NAME-TAKEN",
                    "error",
                    f"The {where} already has a virtual machine named {vm_name} ({child._moId}).",
                )
            ]
    return []


def check_datastore(site: Site, space: VmSpace) -> list[PlacementFinding]:
    of, name = site.of.get("datastore"), site.name("datastore")
    if of is None:
        return []
    if not of.get("summary.accessible"):
        return [
            PlacementFinding(
                "PLACEMENT-DATASTORE-INACCESSIBLE", "error", f"{name} is not accessible."
            )
        ]
    if of.get("summary.maintenanceMode", NORMAL) != NORMAL:
        return [
            PlacementFinding(
                "PLACEMENT-DATASTORE-MAINTENANCE", "error", f"{name} is in maintenance."
            )
        ]
    return _check_space(name, of.get("summary.freeSpace", 0), of.get("summary.capacity", 0), space)


def disk_step_bytes(content: Any, datastore: str) -> int:
    """Return what the size of a disk there has to be a multiple of."""
    found = find_object(content, "datastore", datastore, ("summary.type",))
    kind = found[1].get("summary.type", "") if found else ""
    return DISK_STEPS.get(kind.upper(), SECTOR_BYTES)


def _check_space(
    name: str, free_bytes: int, capacity_bytes: int, space: VmSpace
) -> list[PlacementFinding]:
    """Refuse only what does not fit at first; disks that could outgrow the datastore are a risk."""
    full_bytes = space.capacity_bytes + space.swap_bytes
    left_bytes = free_bytes - full_bytes
    if left_bytes < 0:
        data_bytes = space.read_data_bytes()
        parts = f"{_gib(data_bytes)} of data and {_gib(space.swap_bytes)} of swap"
        if free_bytes < data_bytes + space.swap_bytes:
            text = f"{name} has {_gib(free_bytes)} free; {parts} are needed."
            return [PlacementFinding("PLACEMENT-DATASTORE-FULL", "error", text)]
        text = (
            f"{name} has {_gib(free_bytes)} free. At first, {parts} are needed, but the thin disks "
            f"can grow to {_gib(space.capacity_bytes)}. When a datastore is full, its virtual "
            "machines stop."
        )
        return [PlacementFinding("PLACEMENT-DATASTORE-OUTGROWN", "warning", text)]
    if left_bytes < capacity_bytes * SPARE_SHARE:
        text = f"Only {_gib(left_bytes)} would remain free on {name}."
        return [PlacementFinding("PLACEMENT-DATASTORE-TIGHT", "warning", text)]
    return []


def _gib(count_bytes: int) -> str:
    return f"{count_bytes / (1 << 30):,.1f} GiB"


def check_hosts(content: Any, site: Site) -> list[PlacementFinding]:
    if site.compute is None:
        return []
    if "host" in site.objects and site.objects["host"] not in site.compute_of.get("host", ()):
        return [
            PlacementFinding(
                "PLACEMENT-HOST-ELSEWHERE",
                "error",
                f"{site.name('host')} does not belong to the resource pool "
                f"{site.name('resource_pool')}.",
            )
        ]
    unable = [reason for of in site.hosts.values() if (reason := site.why_unable(of))]
    findings = []
    if len(unable) == len(site.hosts):
        reasons = "; ".join(unable) or "the pool has none"
        findings.append(
            PlacementFinding(
                "PLACEMENT-NO-HOST", "error", f"No host can run the machine: {reasons}."
            )
        )
    elif unable and "host" not in site.objects:
        findings.append(
            PlacementFinding(
                "PLACEMENT-FEWER-HOSTS",
                "warning",
                f"Some hosts cannot run it: {'; '.join(unable)}.",
            )
        )
    if "host" not in site.objects and len(site.hosts) > 1 and not has_drs(content, site.compute):
        findings.append(
            PlacementFinding(
                "PLACEMENT-HOST-NEEDED",
                "warning",
                f"{plain_name(site.compute_of.get('name', ''))} does not choose hosts itself "
                "(DRS is off). Choose a host.",
            )
        )
    return findings


def check_network(content: Any, site: Site, adapters: int) -> list[PlacementFinding]:
    network = site.objects.get("network")
    if network is None:
        return []
    if isinstance(network, vim.DistributedVirtualPortgroup) and is_uplink(
        read(content, network, ("tag",))
    ):
        return [
            PlacementFinding(
                "PLACEMENT-NETWORK-UPLINK",
                "error",
                f"{site.name('network')} is an uplink of a switch, not a network for machines.",
            )
        ]
    blind = [of for of in site.hosts.values() if network not in of.get("network", ())]
    if blind and len(blind) == len(site.hosts):
        return [
            PlacementFinding(
                "PLACEMENT-NETWORK-NOT-VISIBLE",
                "error",
                f"{site.name('network')} is not available on {blind[0].get('name')}.",
            )
        ]
    if isinstance(network, vim.DistributedVirtualPortgroup):
        return _check_ports(content, network, site.name("network"), adapters)
    return []


def _check_ports(content: Any, group: Any, name: str, adapters: int) -> list[PlacementFinding]:
    """Look whether a distributed port group has ports for all adapters, and can be asked."""
    of = read(content, group, PORT_PATHS)
    switch = of.get("config.distributedVirtualSwitch")
    try:
        if switch is None:
            raise vim.fault.NoPermission(privilegeId="System.Read")
        read(content, switch, ("uuid",))
    except vim.fault.NoPermission as fault:
        text = f"The account lacks {fault.privilegeId} on the distributed switch of {name}."
        return [PlacementFinding("PLACEMENT-PRIVILEGE-MISSING", "error", text)]
    is_static = of.get("config.type") == "earlyBinding" and not of.get("config.autoExpand")
    if not is_static:  # ports are made when they are needed
        return []
    criteria = vim.dvs.PortCriteria(connected=False, inside=True, portgroupKey=[of["key"]])
    try:
        free = len(switch.FetchDVPortKeys(criteria=criteria) or ())
    except (*UNSUPPORTED, UnknownAnswer):  # nice to know
        return []
    if free >= adapters:
        return []
    needed = f"{adapters} are needed" if adapters > 1 else "1 is needed"
    has = f"{free} free ports" if free > 1 else f"{free or 'no'} free port"
    text = (
        f"{name} has {has}, and {needed}: its ports are bound statically, and "
        "their number does not grow. Add ports to it, or let it grow."
    )
    return [PlacementFinding("PLACEMENT-NETWORK-PORTS", "error", text)]


def _check_privileges(content: Any, site: Site) -> list[PlacementFinding]:
    try:
        session = read(content, content.sessionManager, ("currentSession",)).get("currentSession")
        if session is None or content.authorizationManager is None:
            return [_unknown_privileges("it does not say who is signed in")]
        return [
            finding
            for role, target in site.objects.items()
            for finding in _check_privileges_on(content, site, role, target, session)
        ]
    except UNSUPPORTED as error:
        return [_unknown_privileges(describe(error))]


def _check_privileges_on(
    content: Any, site: Site, role: str, target: Any, session: Any
) -> list[PlacementFinding]:
    wanted = needed_on(role, is_vapp=site.is_vapp)
    if not wanted:
        return []
    answers = content.authorizationManager.HasPrivilegeOnEntities(
        entity=[target], sessionId=session.key, privId=wanted
    )
    granted = {one.privId for entity in answers for one in entity.privAvailability if one.isGranted}
    lacking = [privilege for privilege in wanted if privilege not in granted]
    if not lacking:
        return []
    text = (
        f"{session.userName} lacks {', '.join(lacking)} on the {role.replace('_', ' ')} "
        f"{site.name(role)}."
    )
    return [PlacementFinding("PLACEMENT-PRIVILEGE-MISSING", "error", text)]


def _unknown_privileges(reason: str) -> PlacementFinding:
    return PlacementFinding(
        "PLACEMENT-PRIVILEGES-UNKNOWN",
        "warning",
        f"The server cannot be asked for the account's privileges: {reason}. If one is missing, "
        "the failover or export will say which.",
    )
