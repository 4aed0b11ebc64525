"""Bytes that two cores exchange, compared with the size of the replicated files."""

import json
import sys
import time
from pathlib import Path

from benchmarks.disk_image import change_image, copy_image, ensure_disk_image
from benchmarks.figures import Figure, at_most, run_command
from benchmarks.two_cores import (
    begin_core,
    index_store,
    measure_as_core,
    peer_behind_link,
)

_CHANGED_FRACTION = 0.01
_LIMIT = 1.02


def run(work: Path) -> list[Figure]:
    """Replicate a base image and an incremental; count the bytes on the link, both ways."""
    image = copy_image(ensure_disk_image(work.parent), work / "disk.raw")
    store = work / "home" / "store"
    command = [sys.executable, "-m", "recovery_store", "import", store, "--machine", "bench"]
    base_id = run_command([*command, image]).output.split()[-1]
    change_image(image, _CHANGED_FRACTION, seed=1)
    run_command([*command, "--parent", base_id, image])
    image.unlink()
    measured = measure_as_core(__name__, "Headquarters", work / "home", work / "peer")
    rate = measured["file_bytes"] / measured["seconds"] / 1e6
    return [
        at_most(
            f"Bytes on the wire, base image and incremental ({rate:,.0f} MB/s)",
            measured["wire_bytes"] / 1e6,
            "the files",
            measured["file_bytes"] / 1e6,
            "MB",
            _LIMIT,
        )
    ]


def _measure(peer_home: Path) -> dict[str, float]:
    begin_core()
    from console.jobs.report import SILENCE
    from replication.models import ReplicatedMachine
    from replication.peers.connection import speaking_with
    from replication.peers.pairing import add_target_core
    from replication.peers.wire import SentMachine
    from replication.transfer.sending import Sending

    machine = index_store()
    with peer_behind_link(peer_home, "DR site") as (link, peer):
        pairing = add_target_core("127.0.0.1", link.port, peer.pairing_code)
        replicated = ReplicatedMachine.objects.create(pairing=pairing, machine=machine)
        started = time.monotonic()
        with speaking_with(pairing) as client:
            client.put_machine(machine.pk, SentMachine.of(replicated))
            Sending(replicated, client, SILENCE).send_missing()
        seconds = time.monotonic() - started
    return {
        "wire_bytes": link.sent_bytes + link.received_bytes,
        "file_bytes": sum(point.stored_bytes for point in machine.points.all()),
        "seconds": seconds,
    }


if __name__ == "__main__":
    print(json.dumps(_measure(Path(sys.argv[1]))))
