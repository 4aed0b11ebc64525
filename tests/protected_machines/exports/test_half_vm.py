"""A worker killed in mid-upload leaves a half VM, which the next one does not take for its own."""

import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import pytest

from console.jobs.report import SILENCE
from console.jobs.workflow import Waiting
from lab.vcsim.process import Vcsim, running_vcsim
from protected_machines.exports.job_vm import JobVm
from protected_machines.exports.options import VmOptions
from protected_machines.exports.places import places_in, split_compute
from protected_machines.exports.steps import import_vm, new_marker
from protected_machines.exports.vcenters import add_vcenter, connect
from protected_machines.models import Machine, VCenter
from protected_machines.points.taking import take_recovery_point
from recovery_store.store import Store
from tests.reports import may_act

pytestmark = pytest.mark.django_db

LEASE_SECONDS = 5

KILLED_WORKER = """
import io, sys, time
import vsphere
from recovery_store.vmdk.writer import StreamWriter
host, port, user, password, thumbprint, marker, pool, datacenter, datastore, network = sys.argv[1:]
disk = io.BytesIO()
StreamWriter(disk.write, 4 << 20, "00000001").finish()
is_sent = False
def chunks():
    global is_sent
    yield disk.getvalue()
    is_sent = True
def stay_in_the_middle():
    # The VM is there with its disk, its lease is held, and nothing says yet that it is whole.
    if is_sent:
        print("in the middle", flush=True)
        time.sleep(600)
credentials = vsphere.Credentials(host, int(port), user, password, thumbprint)
spec = vsphere.VmSpec("half", "otherLinux64Guest", "bios", 1, 256 << 20,
    [vsphere.VmDisk(0, 4 << 20)], [vsphere.VmNic(network)])
place = vsphere.Placement(datacenter, pool, datastore, network)
with vsphere.connect(credentials) as session:
    disks = [vsphere.DiskUpload(0, len(disk.getvalue()), chunks)]
    session.import_vm(spec, disks, place, marker, check_cancel=stay_in_the_middle)
"""


@pytest.fixture
def strict_vcsim() -> Iterator[Vcsim]:
    """A simulator whose leases run out soon."""
    with running_vcsim(lease_timeout=LEASE_SECONDS) as simulator:
        yield simulator


@pytest.fixture
def vcenter(db: None, strict_vcsim: Vcsim) -> VCenter:
    return add_vcenter(
        name="DR vCenter",
        host=strict_vcsim.host,
        port=strict_vcsim.port,
        username=strict_vcsim.username,
        password=strict_vcsim.password,
        thumbprint=strict_vcsim.thumbprint,
    )


def test_a_half_vm_is_waited_for_and_replaced(
    machine: Machine, vcenter: VCenter, store: Store
) -> None:
    point = take_recovery_point(machine, "base_image", uuid.uuid4())
    with connect(vcenter) as session:
        places = places_in(session.inventory())
    pool, host = split_compute(places.computes[0][0])
    datacenter, datastore = places.datacenters[0][0], places.datastores[0][0]
    network, marker = places.networks[0][0], new_marker()
    who = (vcenter.host, str(vcenter.port), vcenter.username, vcenter.password, vcenter.thumbprint)
    where = (pool, datacenter, datastore, network)
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_WORKER, *who, marker, *where],
        stdout=subprocess.PIPE,
        text=True,
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "in the middle\n"
        worker.send_signal(signal.SIGKILL)
    with connect(vcenter) as session:
        half = session.find_vm(marker)
    assert half is not None, "the lease still holds what was begun"

    options = VmOptions(
        vcenter.pk, datacenter, pool, host, datastore, network, "db-01", 1, 256 * 1024**2
    )
    job_vm = JobVm(vcenter.pk, marker, may_act)
    deadline = time.monotonic() + 60
    while True:
        try:
            made = import_vm(machine.pk, point.pk, options, job_vm, SILENCE)
            break
        except Waiting:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    assert made.identity.moid != half.moid
    with connect(vcenter) as session:
        vm = session.get_vm(made.identity.moid)
        assert vm.name == "db-01"
        assert len(vm.hardware().disks) == 2
    job_vm.undo_import()
