"""What 100 machines that wait for their guests cost a vCenter with 5,000 VMs.

Several worker processes look after them, as those of the queue `control` do: each with its own
session, and each job again when its step says so.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, at_most
from benchmarks.two_cores import begin_core, measure_as_core
from lab.vcsim.process import Vcsim, running_vcsim

MODULE = "benchmarks.vsphere_waits"
VMS_PER_POOL = 2_450  # in two pools
MACHINES = 100
WORKERS = 4
SECONDS = 60
LIMIT_CALLS_PER_SECOND = 20
MARKER = "benchmark-{}"


def run(work: Path) -> list[Figure]:
    """Measure calls, bytes and sessions while all machines wait."""
    home = work / "home"
    with running_vcsim(work / "vcsim", machines=VMS_PER_POOL, ready_seconds=600) as simulator:
        measure_as_core(MODULE, "bench", home, "prepare", *_address(simulator))
        sessions_before = simulator.served()["sessions"]
        workers = [_worker(home, number) for number in range(WORKERS)]
        try:
            for worker in workers:
                assert worker.stdout is not None
                worker.stdout.readline()
            began, before = time.monotonic(), simulator.served()
            time.sleep(SECONDS)
            seconds, after = time.monotonic() - began, simulator.served()
        finally:
            for worker in workers:
                worker.kill()
                worker.communicate()
    calls = sum(after["calls"].values()) - sum(before["calls"].values())
    sessions = after["sessions"] - sessions_before
    what = f"{MACHINES} machines waiting for their guests among {2 * VMS_PER_POOL + MACHINES:,} VMs"
    return [
        at_most(
            f"vSphere calls: {what}",
            calls / seconds,
            "limit",
            LIMIT_CALLS_PER_SECOND,
            "calls/s",
            1,
        ),
        at_most("Sessions of these 4 workers", sessions, "workers", WORKERS, "sessions", 1),
        Figure(
            "Bytes that vSphere answers them with",
            (after["bytes"] - before["bytes"]) / seconds / 1e3,
            "no limit",
            0,
            "kB/s",
            0,
            "–",
            True,
        ),
    ]


def _address(simulator: Vcsim) -> list[Any]:
    password_file, thumbprint = simulator.password_file, simulator.thumbprint
    return [simulator.host, simulator.port, simulator.username, password_file, thumbprint]


def _worker(home: Path, number: int) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "UNDERSTUDY_HOME": str(home),
        "DJANGO_SETTINGS_MODULE": "console.settings",
    }
    environment.pop("DATABASE_URL", None)
    command = [sys.executable, "-m", MODULE, "work", str(number)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def _prepare(host: str, port: str, username: str, password_file: str, thumbprint: str) -> None:
    """Make a core that knows the vCenter, and the machines' VMs, which are on."""
    begin_core()
    from protected_machines.exports.vcenters import add_vcenter, connect
    from tests.factories import make_machine
    from tests.vsphere.disks import disk_of, make_stream, upload_of
    from vsphere import Placement, VmNic, VmSpec

    vcenter = add_vcenter(
        name="vCenter",
        host=host,
        port=int(port),
        username=username,
        password=Path(password_file).read_text(),
        thumbprint=thumbprint,
    )
    stream = make_stream()
    with connect(vcenter) as session:
        there = session.inventory()
        network = next(one.moid for one in there.networks if not one.is_uplink)
        pool, datastore = there.resource_pools[0].moid, there.datastores[0].moid
        placement = Placement(there.datacenters[0].moid, pool, datastore, network)
        for number in range(MACHINES):
            spec = VmSpec(
                name=f"web-{number:03}",
                guest_id="debian10_64Guest",
                firmware="bios",
                cpus=1,
                memory_bytes=1 << 30,
                disks=[disk_of(0)],
                nics=[VmNic(network)],
            )
            uploads, marker = [upload_of(0, stream)], MARKER.format(number)
            vm = session.get_vm(session.import_vm(spec, uploads, placement, marker))
            vm.power_on()
            make_machine(
                name=spec.name, vcenter=vcenter, vm_moid=vm.moid, vm_instance_uuid=vm.instance_uuid
            )


def _work(worker: int) -> None:
    """Look after a share of the machines, until killed."""
    import django

    django.setup()
    from console.jobs.workflow import Waiting
    from protected_machines.agents.finding import Search
    from protected_machines.exports.job_vm import JobVm
    from protected_machines.models import Machine
    from vsphere import VmIdentity

    due: list[tuple[float, Machine]] = []
    for number, machine in enumerate(Machine.objects.order_by("name")):
        if number % WORKERS == worker:
            due.append((time.monotonic() + number / MACHINES * 10, machine))
    print("ready", flush=True)
    while True:
        due.sort(key=lambda one: one[0])
        at_seconds, machine = due.pop(0)
        time.sleep(max(0.0, at_seconds - time.monotonic()))
        assert machine.vcenter_id is not None
        marker = MARKER.format(int(machine.name.rpartition("-")[2]))
        identity = VmIdentity(machine.vm_moid, machine.vm_instance_uuid)
        vm = JobVm(machine.vcenter_id, marker, lambda: None, identity)
        try:
            vm.wait_for_guest(Search(machine.pk))
        except Waiting as waiting:
            due.append((time.monotonic() + waiting.again_in_seconds, machine))


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        _prepare(*sys.argv[2:])
        print("{}")
    else:
        _work(int(sys.argv[2]))
