"""Problems with a placement are found before anything is made."""

import dataclasses

import pytest

from tests.vsphere.disks import disk_of, make_stream, upload_of
from tests.vsphere.site import MARKER, World, space
from vsphere import Placement, PlacementFinding, VmSpace
from vsphere.api import vim
from vsphere.errors import SpecRefused
from vsphere.placement import check_datastore, check_hosts, check_network
from vsphere.site import Site, read_site

SMALL = space(1 << 30)


def findings(world: World, needs: VmSpace = SMALL, **changes: str) -> list[PlacementFinding]:
    placement = dataclasses.replace(world.placement, **changes)
    return world.session.check_placement(placement, "web-01", needs)


def codes(found: list[PlacementFinding]) -> list[tuple[str, str]]:
    return [(finding.code, finding.severity) for finding in found]


def test_a_good_placement_has_no_findings(world: World) -> None:
    assert findings(world) == []
    assert findings(world, host=world.cluster.hosts[0]) == []


def test_a_stand_alone_host_has_no_findings(esx: World) -> None:
    assert findings(esx) == []


@pytest.mark.parametrize(
    "role", ["datacenter", "resource_pool", "datastore", "network", "host", "folder"]
)
def test_what_is_gone_is_named(world: World, role: str) -> None:
    found = findings(world, **{role: "gone-1"})
    assert ("PLACEMENT-MISSING", "error") in codes(found)
    assert role.replace("_", " ") in found[0].text


def test_a_taken_name_is_found(world: World) -> None:
    moid = world.import_one()
    (found,) = findings(world)
    assert (found.code, found.severity) == ("PLACEMENT-NAME-TAKEN", "error")
    assert moid in found.text


def test_the_name_is_looked_for_where_the_machine_will_be(world: World) -> None:
    folder = vim.Folder(world.inventory.datacenters[0].folder, world.session.calls.stub)
    other = folder.CreateFolder(name="other")
    taken = world.spec(name="a/b 50%")
    placement = dataclasses.replace(world.placement, folder=other._moId)
    moid = world.import_one(taken, placement=placement)
    assert world.session.get_vm(moid).name == taken.name
    assert world.session.check_placement(world.placement, taken.name, space(1 << 20)) == []
    (found,) = world.session.check_placement(placement, taken.name, space(1 << 20))
    assert (found.code, found.text) == (
        "PLACEMENT-NAME-TAKEN",
        f"The folder other already has a virtual machine named {taken.name} ({moid}).",
    )
    world.session.get_vm(moid).destroy(MARKER)
    other.Destroy_Task()


def test_a_vapp_keeps_its_machines_itself(world: World) -> None:
    pool = vim.ResourcePool(world.placement.resource_pool, world.session.calls.stub)
    vapp = pool.CreateVApp(
        name="shop",
        resSpec=pool.config,
        configSpec=vim.vApp.VAppConfigSpec(),
        vmFolder=vim.Folder(world.inventory.datacenters[0].folder, pool._stub),
    )
    placement = dataclasses.replace(world.placement, resource_pool=vapp._moId, folder="gone-1")
    assert world.session.check_placement(placement, "web-01", space(1 << 20)) == []
    moid = world.import_one(placement=placement)
    (found,) = world.session.check_placement(placement, "web-01", space(1 << 20))
    assert found.text == f"The vApp shop already has a virtual machine named web-01 ({moid})."
    world.session.get_vm(moid).destroy(MARKER)
    vapp.Destroy_Task()


def test_missing_space_is_found_with_all_figures(world: World) -> None:
    (found,) = findings(world, space(2 << 40, 1020 << 30, 5 << 30))
    assert (found.code, found.severity) == ("PLACEMENT-DATASTORE-FULL", "error")
    assert "1,024.0 GiB free" in found.text
    assert "1,020.0 GiB of data and 5.0 GiB of swap are needed" in found.text


def test_thin_disks_that_can_outgrow_the_datastore_are_a_warning(world: World) -> None:
    (found,) = findings(world, space(2 << 40, 1019 << 30, 5 << 30))
    assert (found.code, found.severity) == ("PLACEMENT-DATASTORE-OUTGROWN", "warning")
    assert "can grow to 2,048.0 GiB" in found.text


def test_what_the_disks_hold_is_read_only_if_they_might_not_fit(world: World) -> None:
    def read() -> int:
        raise AssertionError

    assert findings(world, VmSpace(500 << 30, 1 << 30, read)) == []


def test_little_space_left_is_a_warning(world: World) -> None:
    for needs in (space(1000 << 30), space(990 << 30, swap_bytes=10 << 30)):
        assert codes(findings(world, needs)) == [("PLACEMENT-DATASTORE-TIGHT", "warning")]


def test_a_host_of_another_pool_is_found(world: World) -> None:
    other = next(host for host in world.inventory.hosts if host.cluster != world.cluster.moid)
    assert codes(findings(world, host=other.moid)) == [("PLACEMENT-HOST-ELSEWHERE", "error")]


def test_each_further_network_is_looked_at(world: World) -> None:
    uplink = next(network for network in world.inventory.networks if network.is_uplink)
    other = next(
        network
        for network in world.inventory.networks
        if not network.is_uplink and network.moid != world.network.moid
    )
    placement = dataclasses.replace(
        world.placement, more_networks=(world.network.moid, other.moid, other.moid)
    )
    assert world.session.check_placement(placement, "web-01", SMALL) == []
    world.vcsim.faults(missing_privileges=["Network.Assign"])
    found = world.session.check_placement(placement, "web-01", SMALL)
    assert [one.text.rpartition(" on ")[2] for one in found] == [
        f"the network {world.network.name}.",
        f"the network {other.name}.",
    ]
    world.vcsim.no_faults()
    placement = dataclasses.replace(world.placement, more_networks=(uplink.moid, "gone-1"))
    found = world.session.check_placement(placement, "web-01", SMALL)
    assert codes(found) == [("PLACEMENT-NETWORK-UPLINK", "error"), ("PLACEMENT-MISSING", "error")]


def test_an_uplink_is_found(world: World) -> None:
    uplink = next(network for network in world.inventory.networks if network.is_uplink)
    assert codes(findings(world, network=uplink.moid)) == [("PLACEMENT-NETWORK-UPLINK", "error")]


def test_missing_privileges_are_named_with_the_object(world: World) -> None:
    world.vcsim.faults(missing_privileges=["VApp.Import", "Network.Assign"])
    found = findings(world)
    assert {code for code, _ in codes(found)} == {"PLACEMENT-PRIVILEGE-MISSING"}
    texts = " ".join(finding.text for finding in found)
    assert "VApp.Import on the folder vm" in texts
    assert f"Network.Assign on the network {world.network.name}" in texts


def test_hosts_in_maintenance_do_not_count(world: World) -> None:
    hosts = [vim.HostSystem(moid, world.session.calls.stub) for moid in world.cluster.hosts]
    hosts[0].EnterMaintenanceMode_Task(timeout=0)
    try:
        assert codes(findings(world)) == [("PLACEMENT-FEWER-HOSTS", "warning")]
        assert codes(findings(world, host=world.cluster.hosts[0])) == [
            ("PLACEMENT-NO-HOST", "error")
        ]
    finally:
        hosts[0].ExitMaintenanceMode_Task(timeout=0)


def test_only_hosts_that_can_run_the_machine_decide_on_its_hardware(world: World) -> None:
    site = read_site(world.session.calls.content, world.placement)
    able, off, absent, blind = (
        {**of, "summary.config.product.version": version}
        for of, version in zip(
            [next(iter(site.hosts.values()))] * 4, ("8.0.2", "6.5.0", "6.5.0", "6.5.0"), strict=True
        )
    )
    off["runtime.connectionState"] = "disconnected"
    absent["runtime.inMaintenanceMode"] = True
    blind["datastore"] = []
    site.hosts = dict(enumerate((able, off, absent, blind)))
    assert site.able_versions() == ["8.0.2"]


@pytest.mark.parametrize(("is_vvol", "step_bytes"), [(False, 512), (True, 1 << 20)])
def test_a_vvol_wants_disks_of_whole_mib(world: World, is_vvol: bool, step_bytes: int) -> None:
    world.vcsim.faults(vvol_datastore=world.datastore.name if is_vvol else "")
    assert world.session.disk_step_bytes(world.datastore.moid) == step_bytes
    odd_bytes = (64 << 20) + 512
    spec = world.spec(disks=[disk_of(0, odd_bytes)])
    stream = upload_of(0, make_stream(odd_bytes))
    if is_vvol:
        with pytest.raises(SpecRefused, match="whole MiB"):
            world.import_one(spec, [stream])
    else:
        assert world.import_one(spec, [stream])


def test_a_datastore_that_is_gone_asks_for_nothing(world: World) -> None:
    assert world.session.disk_step_bytes("datastore-999") == 512


def a_datastore(**properties: object) -> Site:
    """A place with a datastore of which vSphere says this."""
    of = {"name": "ds-1", "summary.accessible": True, "summary.freeSpace": 1 << 40}
    changed = {f"summary.{name}": value for name, value in properties.items()}
    return Site(Placement("dc", "pool", None, "ds-1", None, "net"), of={"datastore": of | changed})


@pytest.mark.parametrize(
    ("properties", "code"),
    [
        ({"accessible": False}, "PLACEMENT-DATASTORE-INACCESSIBLE"),
        ({"maintenanceMode": "inMaintenance"}, "PLACEMENT-DATASTORE-MAINTENANCE"),
        ({"maintenanceMode": "enteringMaintenance"}, "PLACEMENT-DATASTORE-MAINTENANCE"),
    ],
)
def test_a_datastore_that_cannot_be_used_is_found(properties: dict[str, object], code: str) -> None:
    assert codes(check_datastore(a_datastore(**properties), space(1 << 30))) == [(code, "error")]


def test_a_datastore_in_its_usual_mode_is_fine() -> None:
    assert check_datastore(a_datastore(maintenanceMode="normal"), space(1 << 30)) == []


def test_a_network_that_no_host_sees_is_found(world: World) -> None:
    site = read_site(world.session.calls.content, world.placement)
    for of in site.hosts.values():
        of["network"] = ()
    found = check_network(world.session.calls.content, site, 1)
    assert codes(found) == [("PLACEMENT-NETWORK-NOT-VISIBLE", "error")]


def test_hosts_that_nothing_chooses_among_need_a_choice(world: World) -> None:
    """On a compute resource that is not a cluster, vSphere does not choose hosts."""
    site = read_site(world.session.calls.content, world.placement)
    site.compute = vim.ComputeResource(world.cluster.moid, world.session.calls.stub)
    found = check_hosts(world.session.calls.content, site)
    assert codes(found) == [("PLACEMENT-HOST-NEEDED", "warning")]


@pytest.fixture
def on_switch(world: World) -> Placement:
    """A place on a distributed port group, whose ports are bound statically."""
    group = next(one for one in world.inventory.networks if one.name == "DC0_DVPG0")
    return dataclasses.replace(world.placement, network=group.moid)


def test_a_port_group_that_grows_has_ports_for_everybody(
    world: World, on_switch: Placement
) -> None:
    needs = dataclasses.replace(space(1 << 20), adapters=100)
    assert world.session.check_placement(on_switch, "web-01", needs) == []


def test_a_port_group_without_free_ports_is_found(world: World, on_switch: Placement) -> None:
    world.vcsim.faults(static_ports={"DC0_DVPG0": 1})
    assert world.session.check_placement(on_switch, "web-01", space(1 << 20)) == []
    needs = dataclasses.replace(space(1 << 20), adapters=2)
    (found,) = world.session.check_placement(on_switch, "web-01", needs)
    assert (found.code, found.severity) == ("PLACEMENT-NETWORK-PORTS", "error")
    assert "DC0_DVPG0 has 1 free port, and 2 are needed" in found.text
    world.vcsim.faults(static_ports={"DC0_DVPG0": 0})
    (found,) = world.session.check_placement(on_switch, "web-01", space(1 << 20))
    assert "DC0_DVPG0 has no free port, and 1 is needed" in found.text


def test_a_switch_that_cannot_tell_its_ports_is_not_in_the_way(
    world: World, on_switch: Placement
) -> None:
    world.vcsim.faults(
        static_ports={"DC0_DVPG0": 0}, answers=[{"call": "FetchDVPortKeys", "answer": "unknown"}]
    )
    assert world.session.check_placement(on_switch, "web-01", space(1 << 20)) == []
