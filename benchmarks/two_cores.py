"""Two real cores for benchmarks: this process is one, a gunicorn the other.

The link between them counts bytes. A benchmark that uses them runs itself as a process with its own
home, since Django reads its settings once.
"""

import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def measure_as_core(module: str, name: str, home: Path, *words: object) -> dict[str, float]:
    """Run a module as a process of a core with that name and home; return the JSON it prints."""
    environment = {
        **os.environ,
        "UNDERSTUDY_HOME": str(home),
        "DJANGO_SETTINGS_MODULE": "console.settings",
        "UNDERSTUDY_CORE_NAME": name,
    }
    environment.pop("DATABASE_URL", None)
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.stderr.write(done.stderr)
        done.check_returncode()
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def begin_core() -> None:
    """Make this process a core with an empty database."""
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


@contextmanager
def peer_behind_link(home: Path, name: str) -> Iterator[tuple[Any, Any]]:
    """Run another core; yield the link to it, and the peer."""
    from tests.places.link import Link
    from tests.places.peer_core import PeerCore

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    peer = PeerCore(home, name, port)
    peer.set_up()
    peer.start()
    link = Link(port)
    try:
        yield link, peer
    finally:
        peer.stop()
        link.close()


def index_store() -> Any:
    """Create the rows of the store's only machine, which this core owns, and of its points."""
    from console.identity import this_core
    from protected_machines.models import Machine
    from protected_machines.points.index import index_point
    from protected_machines.points.store import open_store

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


def ignore(*_anything: object) -> None:
    """Take a report and do nothing with it."""
