"""Reading what there is."""

from collections.abc import Callable

from lab.vcsim.process import Vcsim
from tests.places.vcsim import credentials_of
from tests.vsphere.site import World
from vsphere import connect
from vsphere.inventory import plain_name
from vsphere.properties import PAGE_OBJECTS


def test_every_object_says_where_it_is(world: World) -> None:
    inventory = world.inventory
    (datacenter,) = inventory.datacenters
    assert (datacenter.name, datacenter.path) == ("DC0", "/DC0")
    assert [folder.moid for folder in inventory.folders] == [datacenter.folder]
    assert {cluster.is_cluster for cluster in inventory.clusters} == {True, False}
    for host in inventory.hosts:
        assert host.is_connected
        assert host.cluster in {cluster.moid for cluster in inventory.clusters}
        assert host.path.startswith("/DC0/host/")
    for one in (*inventory.hosts, *inventory.datastores, *inventory.networks):
        assert one.datacenter == datacenter.moid
    assert {pool.cluster for pool in inventory.resource_pools} == {
        cluster.moid for cluster in inventory.clusters
    }


def test_a_datastore_tells_its_space(world: World) -> None:
    (datastore,) = world.inventory.datastores
    assert datastore.capacity_bytes == 1 << 40
    assert datastore.free_bytes == 1 << 40
    assert datastore.is_accessible
    assert not datastore.is_in_maintenance


def test_uplinks_are_told_from_networks(world: World) -> None:
    networks = {network.name: network for network in world.inventory.networks}
    assert networks["VM Network"].kind == "standard"
    assert networks["DC0_DVPG0"].kind == "distributed"
    assert [name for name, network in networks.items() if network.is_uplink] == ["DVS0-DVUplinks-9"]


def test_machines_are_read_only_if_wanted(world: World) -> None:
    moid = world.import_one()
    assert world.session.inventory().virtual_machines == ()
    (machine,) = world.session.inventory(with_virtual_machines=True).virtual_machines
    assert (machine.moid, machine.name, machine.power_state) == (moid, "web-01", "poweredOff")


def test_a_stand_alone_host_has_the_same_shape(esx: World) -> None:
    assert not esx.session.about().is_vcenter
    assert esx.inventory.datacenters[0].moid == "ha-datacenter"
    assert [cluster.is_cluster for cluster in esx.inventory.clusters] == [False]
    assert len(esx.inventory.hosts) == 1


def test_escaped_names_are_shown_as_written() -> None:
    assert plain_name("a%2fb %25 c") == "a/b % c"


def test_thousands_of_objects_come_in_a_handful_of_calls(start: Callable[..., Vcsim]) -> None:
    simulator = start(clusters=4, cluster_hosts=2, pools=8, portgroups=PAGE_OBJECTS, machines=10)
    with connect(credentials_of(simulator)) as session:
        requests: list[bytes] = []
        session.calls.stub.requestModifierList.append(
            lambda request: (requests.append(request), request)[1]
        )
        inventory = session.inventory(with_virtual_machines=True)
        assert len(requests) == 4  # make a view, two pages of it, remove it
    assert len(inventory.virtual_machines) == 50
    assert len(inventory.hosts) == 9
    assert {network.name for network in inventory.networks} >= {
        f"DC0_DVPG{number}" for number in range(PAGE_OBJECTS)
    }
    paths = [machine.path for machine in inventory.virtual_machines]
    assert len(set(paths)) == len(paths)
