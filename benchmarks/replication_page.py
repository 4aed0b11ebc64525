"""The Replication page with 2,000 machines and 200,000 recovery points: time and queries.

It runs in a separate process, since a core's settings are read once, at import.
"""

import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, at_most

CORES = 4
MACHINES = 2_000
POINTS_PER_MACHINE = 100
LIMIT_MS = 300.0
_REQUESTS = 15
_URL = "/replication/"


def run(work: Path) -> list[Figure]:
    """Measure the page as the server renders it, against its limit, and its number of queries."""
    environment = {**os.environ, "UNDERSTUDY_HOME": str(work / "home")}
    environment["DJANGO_SETTINGS_MODULE"] = "console.settings"
    environment.pop("DATABASE_URL", None)
    command = [sys.executable, "-m", "benchmarks.replication_page"]
    output = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    ).stdout
    measured = json.loads(output.splitlines()[-1])
    few, many = measured["queries_few"], measured["queries_many"]
    return [
        at_most(
            f"Replication page, {MACHINES:,} machines, {MACHINES * POINTS_PER_MACHINE:,} points",
            measured["page_ms"],
            "limit",
            LIMIT_MS,
            "ms",
            1,
        ),
        Figure(
            "Its number of queries",
            many,
            "with 1 machine",
            few,
            "queries",
            many / few,
            "= 1 ×",
            many == few,
        ),
    ]


def _measure() -> dict[str, float]:
    import django

    django.setup()
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.test import Client

    call_command("migrate", verbosity=0)
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("bench"))
    _fill(cores=1, machines=1, points_per_machine=1)
    queries_few = _count_queries(client)
    _fill(CORES, MACHINES, POINTS_PER_MACHINE)
    from replication.models import Pairing

    newest = Pairing.objects.order_by("-created_at")[0]
    # As it opens, and on the second page of one core's machines; the slower one counts.
    addresses = (_URL, f"{_URL}?core={newest.pk}&page=2")
    return {
        "page_ms": max(_time_ms(client, address) for address in addresses),
        "queries_few": queries_few,
        "queries_many": _count_queries(client),
    }


def _time_ms(client: Any, address: str) -> float:
    times_ms = []
    for _ in range(_REQUESTS):
        started = time.perf_counter()
        assert client.get(address, headers={"host": "localhost"}).status_code == 200
        times_ms.append((time.perf_counter() - started) * 1000)
    return statistics.median(times_ms)


def _count_queries(client: Any) -> int:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    client.get(_URL, headers={"host": "localhost"})
    with CaptureQueriesContext(connection) as captured:
        client.get(_URL, headers={"host": "localhost"})
    return len(captured)


def _fill(cores: int, machines: int, points_per_machine: int) -> None:
    from protected_machines.models import Machine, RecoveryPoint
    from replication.models import Pairing, ReplicatedMachine

    now = datetime.now(UTC)
    pairings = Pairing.objects.bulk_create(
        Pairing(
            direction="incoming" if number % 2 else "outgoing",
            peer_core_id=uuid.uuid4(),
            peer_name=f"Core {number}",
            host="10.0.0.1",
            port=8001,
            connection_state="online",
            last_seen_at=now,
        )
        for number in range(cores)
    )
    made = Machine.objects.bulk_create(
        Machine(
            name=f"machine-{number:04}",
            kind="replicated",
            owner_core_id=pairings[number % cores].peer_core_id,
            owner_core_name=pairings[number % cores].peer_name,
            source_core_id=pairings[number % cores].peer_core_id,
            description={"disks": [{"number": 0, "key": "a", "capacity_bytes": 1 << 40}] * 4},
        )
        for number in range(machines)
    )
    ReplicatedMachine.objects.bulk_create(
        ReplicatedMachine(
            pairing=pairings[number % cores],
            machine=machine,
            last_point_at=now,
            last_synced_at=now,
            newest_point_at=now + timedelta(minutes=number % 7),
            behind_points=number % 7,
            behind_bytes=(number % 7) << 25,
        )
        for number, machine in enumerate(made)
    )
    for machine in made:
        RecoveryPoint.objects.bulk_create(
            RecoveryPoint(
                id=uuid.uuid4(),
                machine=machine,
                taken_at=now - timedelta(minutes=number),
                kind="base_image",
                ownership_epoch=1,
                taken_by_core_id=machine.owner_core_id,
                taken_by_core_name=machine.owner_core_name,
                stored_bytes=1 << 25,
                manifest_digest="0" * 64,
            )
            for number in range(points_per_machine)
        )


if __name__ == "__main__":
    print(json.dumps(_measure()))
