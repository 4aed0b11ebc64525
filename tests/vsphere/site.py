"""A simulator with everything that an import needs chosen already."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lab.vcsim.process import Vcsim
from tests.vsphere.disks import disk_of, make_stream, upload_of
from vsphere import DiskUpload, Placement, Session, VmDisk, VmNic, VmSpace, VmSpec

MARKER = "11111111-2222-3333-4444-555555555555"
STREAM = make_stream()


TEMPORARY_BYTES = 1 << 20


def with_temporary_disk(world: "World") -> str:
    """Import the usual machine with one more disk, a temporary one."""
    temporary = VmDisk(1, TEMPORARY_BYTES, is_temporary=True)
    streams = [upload_of(0, STREAM), upload_of(1, make_stream(TEMPORARY_BYTES))]
    return world.import_one(world.spec(disks=[disk_of(0), temporary]), streams)


def space(capacity_bytes: int, data_bytes: int = 0, swap_bytes: int = 0) -> VmSpace:
    """Return what a machine takes of a datastore."""
    return VmSpace(capacity_bytes, swap_bytes, lambda: data_bytes)


@dataclass
class World:
    """One vSphere and what is asked of it."""

    vcsim: Vcsim
    session: Session

    def __post_init__(self) -> None:
        self.inventory = self.session.inventory()
        clusters = sorted(self.inventory.clusters, key=lambda cluster: not cluster.is_cluster)
        self.cluster = clusters[0]
        self.datastore = self.inventory.datastores[0]
        self.network = next(one for one in self.inventory.networks if not one.is_uplink)
        self.placement = Placement(
            datacenter=self.inventory.datacenters[0].moid,
            resource_pool=self.cluster.resource_pool,
            datastore=self.datastore.moid,
            network=self.network.moid,
        )

    def spec(self, disks: Sequence[VmDisk] = (disk_of(0),), **changes: Any) -> VmSpec:
        """Return a machine to make."""
        values: dict[str, Any] = {
            "name": "web-01",
            "guest_id": "debian10_64Guest",
            "firmware": "bios",
            "cpus": 2,
            "memory_bytes": 1 << 30,
            "disks": list(disks),
            "nics": [VmNic(self.network.moid)],
        }
        return VmSpec(**{**values, **changes})

    def import_one(
        self,
        spec: VmSpec | None = None,
        disks: list[DiskUpload] | None = None,
        *,
        placement: Placement | None = None,
        marker: str = MARKER,
        progress: Callable[[int, int], None] = lambda done, total: None,
        check_cancel: Callable[[], None] = lambda: None,
        **more: Any,
    ) -> str:
        """Import a machine, the usual one unless told otherwise."""
        return self.session.import_vm(
            spec or self.spec(),
            [upload_of(0, STREAM)] if disks is None else disks,
            placement or self.placement,
            marker,
            progress,
            check_cancel,
            **more,
        )

    def machine_names(self) -> list[str]:
        """Return the names of all machines."""
        found = self.session.inventory(with_virtual_machines=True).virtual_machines
        return [machine.name for machine in found]

    def uploaded(self) -> list[str]:
        """Return what is kept of uploads."""
        return sorted(
            str(path.relative_to(self.vcsim.uploads))
            for path in self.vcsim.uploads.rglob("*.vmdk*")
            if ".datastores" not in path.parts
        )

    def free_bytes(self) -> int:
        """Return the free space of the datastore."""
        return self.session.inventory().datastores[0].free_bytes
