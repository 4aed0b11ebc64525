"""Bytes that go over the wire between two cores, beside the bytes of the files replicated.

Two real cores: this one sends from a process of its own, the other receives in a gunicorn. Between
them stands a link that counts.
"""

import json
import os
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from benchmarks.disk_image import change_image, copy_image, ensure_disk_image
from benchmarks.figures import Figure, at_most, run_command

_CHANGED_FRACTION = 0.01
_LIMIT = 1.02


def run(work: Path) -> list[Figure]:
    """Replicate a base image and an incremental; count what the link carried, both ways."""
    image = copy_image(ensure_disk_image(work.parent), work / "disk.raw")
    store = work / "home" / "store"
    command = [sys.executable, "-m", "recovery_store", "import", store, "--machine", "bench"]
    base_id = run_command([*command, image]).output.split()[-1]
    change_image(image, _CHANGED_FRACTION, seed=1)
    run_command([*command, "--parent", base_id, image])
    image.unlink()
    environment = {
        **os.environ,
        "UNDERSTUDY_HOME": str(work / "home"),
        "DJANGO_SETTINGS_MODULE": "console.settings",
        "UNDERSTUDY_CORE_NAME": "Headquarters",
    }
    environment.pop("DATABASE_URL", None)
    output = subprocess.run(
        [sys.executable, "-m", "benchmarks.replication_wire", str(work / "peer")],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    measured = json.loads(output.splitlines()[-1])
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
    import django

    django.setup()
    from django.core.management import call_command

    from protected_machines.models import Machine
    from replication.models import ReplicatedMachine
    from replication.pairing import add_target_core
    from replication.peers import speaking_with
    from replication.sending import Sending, describe_machine
    from tests.replication.peer_core import ADMINISTRATOR, PeerCore
    from tests.replication.proxy import Link

    call_command("migrate", verbosity=0)
    machine = _index_store()
    peer = PeerCore(peer_home, "DR site", _free_port())
    peer.set_up()
    peer.start()
    link = Link(peer.port)
    try:
        pairing = add_target_core("127.0.0.1", link.port, *ADMINISTRATOR)
        replicated = ReplicatedMachine.objects.create(pairing=pairing, machine=machine)
        started = time.monotonic()
        with speaking_with(pairing) as client:
            client.put_machine(str(machine.pk), describe_machine(replicated))
            Sending(replicated, client, _ignore, _ignore, _ignore).send_missing()
        seconds = time.monotonic() - started
    finally:
        peer.stop()
        link.close()
    assert Machine.objects.get() == machine
    return {
        "wire_bytes": link.sent_bytes + link.received_bytes,
        "file_bytes": sum(point.stored_bytes for point in machine.points.all()),
        "seconds": seconds,
    }


def _index_store() -> Any:
    """Make rows of the machine and of the points that were imported."""
    from console.identity import this_core
    from protected_machines.index import index_point
    from protected_machines.models import Machine
    from protected_machines.store import open_store

    core, store = this_core(), open_store()
    (machine_id,) = store.machine_ids()
    machine = Machine.objects.create(
        pk=uuid.UUID(machine_id),
        name="bench",
        host="127.0.0.1",
        owner_core_id=core.id,
        owner_core_name=core.name,
    )
    for manifest in store.points(machine_id):
        index_point(machine, manifest)
    return machine


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _ignore(*_anything: object) -> None:
    return None


if __name__ == "__main__":
    print(json.dumps(_measure(Path(sys.argv[1]))))
