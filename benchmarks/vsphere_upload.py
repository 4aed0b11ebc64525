"""Export of a point to vSphere over TLS, compared with an HTTPS PUT of the same file by curl.

The simulator checks, digests and stores every stream; the peer's sink only writes a file.
"""

import sys
from pathlib import Path

from benchmarks.figures import Figure, Run, at_most, run_command
from benchmarks.store_export import build_chain
from lab.vcsim.process import Vcsim, running_vcsim

ROUNDS = 3
MARKER = "benchmark"


def run(work: Path) -> list[Figure]:
    """Measure an import of the store's export, curl's PUT, and the memory of the import."""
    store, point_id, image = build_chain(work)
    image.unlink()
    exported = work / "exported.vmdk"
    run_command([sys.executable, "-m", "recovery_store", "export", store, point_id, 0, exported])
    with running_vcsim(work / "vcsim") as simulator:
        ours, peers = [], []
        for _ in range(ROUNDS):  # alternating, so that other load affects both
            ours.append(_import(simulator, store, point_id))
            peers.append(_put(simulator, exported))
    best, peer = min(ours, key=lambda one: one.seconds), min(peers, key=lambda one: one.seconds)
    return [
        at_most(
            "Export of base + 10 incrementals into vSphere over TLS",
            best.seconds,
            "curl HTTPS PUT",
            peer.seconds,
            "s",
            3,
        ),
        at_most("Memory of that export", best.peak_bytes / 1e6, "limit", 250, "MB", 1),
    ]


def _import(simulator: Vcsim, store: Path, point_id: str) -> Run:
    return run_command(
        [
            *(sys.executable, "-m", "benchmarks.vsphere_upload"),
            *(simulator.host, simulator.port, simulator.username, simulator.password_file),
            *(simulator.thumbprint, store, point_id),
        ]
    )


def _put(simulator: Vcsim, file: Path) -> Run:
    url = f"https://{simulator.host}:{simulator.port}/lab/sink"
    options = ["--silent", "--show-error", "--fail", "--noproxy", "*"]
    trust = ["--cacert", simulator.certificate_path]
    return run_command(["curl", *options, *trust, "-H", "Expect:", "-T", file, url])


def import_point(
    host: str,
    port: str,
    username: str,
    password_file: str,
    thumbprint: str,
    root: str,
    point_id: str,
) -> None:
    """Import a point's first disk, and remove the machine again. This process is measured."""
    from recovery_store.store import Store
    from vsphere import (
        Credentials,
        DiskUpload,
        Placement,
        VmDisk,
        VmNic,
        VmSpec,
        connect,
    )

    store = Store(Path(root))
    password = Path(password_file).read_text()
    machine_id = store.find_machine_of(point_id)
    if machine_id is None:
        raise SystemExit(f"no point {point_id}")
    with (
        store.plan_export(machine_id, point_id, 0) as plan,
        connect(Credentials(host, int(port), username, password, thumbprint)) as session,
    ):
        places = session.inventory()
        network = next(one for one in places.networks if not one.is_uplink)
        placement = Placement(
            datacenter=places.datacenters[0].moid,
            resource_pool=places.resource_pools[0].moid,
            datastore=places.datastores[0].moid,
            network=network.moid,
        )
        spec = VmSpec(
            name="bench",
            guest_id="debian10_64Guest",
            firmware="bios",
            cpus=1,
            memory_bytes=1 << 30,
            disks=[VmDisk(0, plan.capacity_bytes)],
            nics=[VmNic(network.moid)],
        )
        upload = DiskUpload(0, plan.length_bytes, plan.read_chunks)
        moid = session.import_vm(spec, [upload], placement, MARKER)
        session.get_vm(moid).destroy(MARKER)


if __name__ == "__main__":
    import_point(*sys.argv[1:])
