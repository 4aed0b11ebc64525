"""What a failback sends to the source core, compared with the changed points' files and the quote.

The machine failed over to this core and has written 1 % of its disk since, a fifth in each of five
points. Then the quote is made, as in the dialog. The machine continues to write at the same rate
while the catch-up point, the last one before the freeze and the final point are taken and sent over
a link that counts bytes. Restoring the disks in between is omitted. The writes are blocks of 4 KiB
all over the disk, so hardly anything is written twice, which the quote does not expect.
"""

import itertools
import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.disk_image import change_image, ensure_disk_image
from benchmarks.figures import Figure, at_most, run_command
from benchmarks.two_cores import (
    begin_core,
    index_store,
    measure_as_core,
    peer_behind_link,
)

_DISK_BYTES = 1 << 30
_POINTS = 5
_CHANGED_FRACTION = 0.01 / _POINTS  # between two points
_INTERVAL = timedelta(minutes=10)
_WIRE_LIMIT = 1.05
_QUOTE_LIMIT = 0.2


def run(work: Path) -> list[Figure]:
    """Send what changed to the source core's store."""
    image = _part_of(ensure_disk_image(work.parent), work / "disk.raw")
    store = work / "home" / "store"
    run_command([sys.executable, "-m", "recovery_store", "import", store, "--machine=bench", image])
    measured = measure_as_core(__name__, "DR site", work / "home", work / "peer", image)
    wire_bytes, quote_bytes = measured["wire_bytes"], measured["quote_bytes"]
    error = quote_bytes / wire_bytes - 1
    return [
        at_most(
            "Bytes sent for a failback after 1 % of the disk changed",
            wire_bytes / 1e6,
            "the changed points' files",
            measured["file_bytes"] / 1e6,
            "MB",
            _WIRE_LIMIT,
        ),
        Figure(
            "Its estimate of bytes to send",
            quote_bytes / 1e6,
            "bytes really sent",
            wire_bytes / 1e6,
            "MB",
            1 + error,
            f"within {_QUOTE_LIMIT:.0%}",
            abs(error) <= _QUOTE_LIMIT,
        ),
    ]


def _part_of(image: Path, target: Path) -> Path:
    """Copy the beginning of an image: all of it would take minutes and show no more."""
    with image.open("rb") as whole, target.open("wb") as part:
        for _ in range(_DISK_BYTES >> 20):
            part.write(whole.read(1 << 20))
    return target


def _measure(peer_home: Path, image: Path) -> dict[str, float]:
    begin_core()
    from msgspec.structs import replace

    from console.jobs.report import SILENCE
    from protected_machines.points.store import open_store
    from replication.failback.facts import quote_facts
    from replication.failback.quote import make_quote
    from replication.models import ReplicatedMachine
    from replication.peers.connection import speaking_with
    from replication.peers.pairing import add_source_core
    from replication.peers.wire import SentMachine
    from replication.transfer.sending import Sending

    machine = index_store()
    base = machine.points.get()
    writing = _Writing(machine, image, base.pk)
    with peer_behind_link(peer_home, "Headquarters") as (link, peer):
        pairing = add_source_core("127.0.0.1", link.port, peer.pairing_code)
        replicated = ReplicatedMachine.objects.create(pairing=pairing, machine=machine)
        with speaking_with(pairing) as client:

            def send() -> None:
                Sending(replicated, client, SILENCE).send_missing()

            described = SentMachine.of(replicated)
            client.put_machine(machine.pk, replace(described, point_ids=(base.pk,)))
            send()
            for _ in range(_POINTS):
                newest = writing.take_point(_INTERVAL)
            age = _INTERVAL / 2
            facts = quote_facts(machine, {base.pk}, newest.taken_at + age)
            assert facts is not None
            quote = make_quote(facts)
            before_bytes = link.sent_bytes + link.received_bytes
            final = newest
            since = age
            for _ in ("catch-up point", "last point before the freeze", "final point"):
                started = time.monotonic()
                final = writing.take_point(since)
                send()
                since = timedelta(seconds=time.monotonic() - started)
    return {
        "wire_bytes": link.sent_bytes + link.received_bytes - before_bytes,
        "file_bytes": open_store().bytes_since(str(machine.pk), str(final.pk), str(base.pk)),
        "quote_bytes": quote.send_bytes,
    }


class _Writing:
    """A machine that writes at a constant rate; the time between its points is simulated."""

    def __init__(self, machine: Any, image: Path, point_id: Any) -> None:
        self._machine = machine
        self._image = image
        self._newest = machine.points.get(pk=point_id)
        self._seeds = itertools.count(1)

    def take_point(self, since_newest: timedelta) -> Any:
        """Write as much as the machine would in that time, and take an incremental."""
        from protected_machines.points.index import index_point
        from protected_machines.points.store import open_store
        from recovery_store.importing import import_images

        fraction = _CHANGED_FRACTION * (since_newest / _INTERVAL)
        change_image(self._image, fraction, seed=next(self._seeds))
        manifest = import_images(open_store(), "bench", [self._image], str(self._newest.pk))
        taken_at = self._newest.taken_at + since_newest
        self._newest = index_point(self._machine, manifest)
        self._newest.taken_at = taken_at
        self._newest.save(update_fields=["taken_at"])
        return self._newest


if __name__ == "__main__":
    print(json.dumps(_measure(Path(sys.argv[1]), Path(sys.argv[2]))))
