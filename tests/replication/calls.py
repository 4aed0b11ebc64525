"""Call the core interface as a peer does, without a socket."""

import json
from typing import Any

from django.test import Client

from replication.models import Pairing
from tests.replication.rows import PEER_SECRET

MACHINE = {"name": "db-01", "host": "10.0.0.9", "port": 8006, "ownership_epoch": 1}


def call(method: str, path: str, pairing: Pairing | None, body: Any = b"", **more: Any) -> Any:
    headers = {"Content-Type": "application/json"}
    if pairing is not None:
        headers["Authorization"] = f"Understudy {pairing.pk}:{more.get('secret', PEER_SECRET)}"
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Client().generic(
        method, f"/api/v1{path}", data, content_type="application/json", headers=headers
    )
