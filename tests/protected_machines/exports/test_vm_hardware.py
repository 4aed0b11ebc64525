"""The virtual hardware that a point gets: its boot disk first, sockets as before, whole MiB."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from console.jobs.report import SILENCE
from lab.vcsim.process import Vcsim
from protected_machines.exports.check import check_macs
from protected_machines.exports.job_vm import JobVm
from protected_machines.exports.options import VmOptions
from protected_machines.exports.steps import cores_per_socket, import_vm, new_marker, vm_spec
from protected_machines.exports.vcenters import connect
from protected_machines.models import VCenter
from protected_machines.models.descriptions import read_description
from protected_machines.points.index import index_point
from protected_machines.points.proofs import get_manifest, prove_chain
from protected_machines.points.store import open_store
from recovery_store.importing import import_images
from recovery_store.manifest import Manifest
from tests.factories import DESCRIPTION, make_machine
from tests.places.agent import MIB, write_disk
from tests.reports import may_act

pytestmark = pytest.mark.django_db
ODD_BYTES = 3 * MIB + 512


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """A point of two disks, the second of an odd size."""
    sizes = {"first": 4 * MIB, "odd": ODD_BYTES}
    images = [write_disk(tmp_path / name, size, MIB) for name, size in sizes.items()]
    manifest = import_images(open_store(), "db-01", images)
    index_point(make_machine(id=uuid.UUID(manifest.machine_id), name="db-01"), manifest)
    return manifest


def described(manifest: Manifest, **changes: Any) -> Manifest:
    return replace(manifest, description={**DESCRIPTION, **changes})


def test_the_boot_disk_is_the_first(manifest: Manifest, options: VmOptions) -> None:
    disks = [
        {"number": disk.number, "key": disk.key, "capacity_bytes": disk.capacity_bytes}
        for disk in manifest.disks
    ]
    for boot in (0, 1):
        entries = [{**disk, "is_boot": disk["number"] == boot} for disk in disks]
        spec = vm_spec(described(manifest, disks=entries), options)
        assert [disk.number for disk in spec.disks] == [boot, 1 - boot]
    spec = vm_spec(described(manifest, disks=[]), options)
    assert [disk.number for disk in spec.disks] == [0, 1]


@pytest.mark.parametrize(
    ("cpus", "sockets", "cores"), [(8, 2, 4), (6, 2, 3), (5, 2, 1), (4, 0, 1), (4, 1, 4), (2, 4, 1)]
)
def test_the_sockets_are_those_of_the_source_if_the_cpus_fill_them(
    manifest: Manifest, options: VmOptions, cpus: int, sockets: int, cores: int
) -> None:
    assert cores_per_socket(cpus, sockets) == cores
    spec = vm_spec(described(manifest, sockets=sockets), replace(options, cpus=cpus))
    assert spec.cores_per_socket == cores


NICS = [
    {"name": "eth0", "mac": "52:54:00:12:34:56", "driver": "", "addresses": []},
    {"name": "eth1", "mac": "00:0c:29:12:34:56", "driver": "", "addresses": []},
    {"name": "eth2", "mac": "", "driver": "", "addresses": []},
]


def test_a_card_has_its_own_network_or_that_of_all(manifest: Manifest, options: VmOptions) -> None:
    wanted = replace(options, network="n-1", nic_networks=("n-2", "n-3"))
    assert wanted.placement.more_networks == ("n-2", "n-3")
    spec = vm_spec(described(manifest, nics=NICS), wanted)
    assert [nic.network for nic in spec.nics] == ["n-2", "n-3", "n-1"]
    assert [nic.network for nic in vm_spec(described(manifest, nics=[]), wanted).nics] == ["n-2"]


def test_the_mac_addresses_are_kept_on_request_where_vsphere_allows_it(
    manifest: Manifest, options: VmOptions
) -> None:
    point = described(manifest, nics=NICS)
    assert [nic.mac for nic in vm_spec(point, options).nics] == [None] * 3
    spec = vm_spec(point, replace(options, keeps_macs=True))
    assert [nic.mac for nic in spec.nics] == ["52:54:00:12:34:56", None, None]
    description = read_description(point.description)
    assert check_macs(description, False) == []
    eth1, eth2 = check_macs(description, True)
    assert {eth1.code, eth2.code} == {"EXPORT-MAC-NOT-KEPT"}
    assert eth1.text == (
        "The VM gets another MAC address than 00:0c:29:12:34:56 of eth1: it is in a range from "
        "which vSphere itself gives addresses."
    )
    assert "that of eth2" in eth2.text


@pytest.fixture
def vm(vcenter: VCenter) -> Iterator[JobVm]:
    """A job's VM that does not exist yet."""
    one = JobVm(vcenter.pk, new_marker(), may_act)
    yield one
    one.undo_import()


@pytest.mark.parametrize(
    ("is_vvol", "odd_bytes"), [(False, ODD_BYTES), (True, 4 * MIB)], ids=["usual", "vvol"]
)
def test_disks_of_odd_sizes_are_rounded_up_only_where_they_have_to(
    manifest: Manifest,
    options: VmOptions,
    vm: JobVm,
    vcenter: VCenter,
    vcsim: Vcsim,
    is_vvol: bool,
    odd_bytes: int,
) -> None:
    machine_id, point_id = uuid.UUID(manifest.machine_id), uuid.UUID(manifest.point_id)
    prove_chain(machine_id, point_id)
    assert get_manifest(machine_id, point_id).disks[1].capacity_bytes == ODD_BYTES
    with connect(vcenter) as session:
        stores = {one.moid: one.name for one in session.inventory().datastores}
        vcsim.faults(vvol_datastore=stores[options.datastore] if is_vvol else "")
        try:
            made = import_vm(machine_id, point_id, options, vm, SILENCE)
        finally:
            vcsim.no_faults()
        disks = session.get_vm(made.identity.moid).hardware().disks
    assert [disk.capacity_bytes for disk in disks] == [4 * MIB, odd_bytes]
