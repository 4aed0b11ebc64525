"""The places that an export dialog offers."""

import pytest

from protected_machines.exports.places import places_in, split_compute
from vsphere.inventory import (
    Cluster,
    Datacenter,
    Datastore,
    Folder,
    Host,
    Inventory,
    Network,
    ResourcePool,
)


def cluster(moid: str, datacenter: str) -> Cluster:
    return Cluster(moid, moid, f"/{moid}", datacenter, True, f"root-{moid}", (), (), ())


def host(moid: str, of: str, datacenter: str, *, in_maintenance: bool = False) -> Host:
    return Host(moid, moid, f"/{moid}", datacenter, of, True, in_maintenance, "8.0", (), ())


def pool(moid: str, of: str, datacenter: str, *, is_root: bool = False) -> ResourcePool:
    return ResourcePool(moid, moid, f"/{moid}", datacenter, of, is_root, False)


def datastore(moid: str, free_gib: int, datacenter: str, *, is_usable: bool = True) -> Datastore:
    free_bytes = free_gib * 1024**3
    return Datastore(moid, moid, moid, datacenter, "VMFS", 1 << 40, free_bytes, is_usable, False)


INVENTORY = Inventory(
    datacenters=(Datacenter("dc-1", "East", "/East", "f-1"), Datacenter("dc-2", "West", "/W", "f")),
    folders=(
        Folder("f-2", "vm", "/East/vm/a", "dc-1"),
        Folder("f-1", "vm", "/East/vm", "dc-1"),
        Folder("f", "vm", "/W/vm", "dc-2"),
    ),
    clusters=(cluster("c-1", "dc-1"), cluster("c-2", "dc-2")),
    hosts=(host("h-1", "c-1", "dc-1"), host("h-2", "c-1", "dc-1", in_maintenance=True)),
    resource_pools=(
        pool("root-c-1", "c-1", "dc-1", is_root=True),
        pool("gold", "c-1", "dc-1"),
        pool("root-c-2", "c-2", "dc-2", is_root=True),
    ),
    datastores=(
        datastore("small", 10, "dc-1"),
        datastore("large", 900, "dc-1"),
        datastore("broken", 5000, "dc-1", is_usable=False),
    ),
    networks=(
        Network("n-1", "VM Network", "/n", "dc-1", "standard", False),
        Network("n-2", "Uplinks", "/u", "dc-1", "distributed", True),
    ),
)


def test_the_first_datacenter_is_chosen_where_none_is_named() -> None:
    places = places_in(INVENTORY)
    assert places.datacenters == [("dc-1", "East"), ("dc-2", "West")]
    assert places.computes == [
        ("pool:root-c-1", "c-1"),
        ("pool:gold", "c-1 / gold"),
        ("host:h-1:root-c-1", "h-1 (this host)"),
    ]


def test_a_datacenter_offers_only_what_is_in_it() -> None:
    assert places_in(INVENTORY, "dc-2").computes == [("pool:root-c-2", "c-2")]
    assert places_in(INVENTORY, "dc-2").datastores == []


def test_the_datastore_with_most_space_comes_first_and_unusable_ones_never() -> None:
    assert [moid for moid, _ in places_in(INVENTORY).datastores] == ["large", "small"]


def test_the_datacenter_s_own_folder_comes_first() -> None:
    assert places_in(INVENTORY).folders == [("f-1", "vm"), ("f-2", "vm/a")]


def test_uplinks_are_no_networks_for_machines() -> None:
    assert places_in(INVENTORY).networks == [("n-1", "VM Network")]


def test_an_empty_vcenter_offers_nothing() -> None:
    assert places_in(Inventory()).computes == []


def test_a_compute_choice_is_split_into_pool_and_host() -> None:
    assert split_compute("pool:gold") == ("gold", "")
    assert split_compute("host:h-1:root-c-1") == ("root-c-1", "h-1")


@pytest.mark.parametrize("choice", ["", "pool:", "host:h-1", "folder:x", "host::p"])
def test_anything_else_is_no_place(choice: str) -> None:
    with pytest.raises(ValueError, match="neither a resource pool nor a host"):
        split_compute(choice)
