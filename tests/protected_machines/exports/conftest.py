"""What the tests of exports share."""

import uuid

import pytest

from protected_machines.exports.options import VmOptions
from protected_machines.exports.places import places_in, split_compute
from protected_machines.exports.vcenters import connect
from protected_machines.models import VCenter


@pytest.fixture
def options(vcenter: VCenter) -> VmOptions:
    """The first place that the simulator offers, under a name of this test's own."""
    with connect(vcenter) as session:
        places = places_in(session.inventory())
    resource_pool, host = split_compute(places.computes[0][0])
    return VmOptions(
        vcenter_id=vcenter.pk,
        datacenter=places.datacenters[0][0],
        resource_pool=resource_pool,
        host=host,
        datastore=places.datastores[0][0],
        network=places.networks[0][0],
        vm_name=f"export-{uuid.uuid4().hex[:8]}",
        cpus=2,
        memory_bytes=512 * 1024**2,
    )
