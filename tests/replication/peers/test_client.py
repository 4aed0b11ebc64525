"""How long a core waits for its peer."""

import uuid

import httpx
import pytest

from console.identity import this_core
from replication.peers.client import ANSWER_TIMEOUT_SECONDS, PeerClient
from replication.peers.wire import KeptPoint

GIGABYTE = 10**9


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[httpx.Request]:
    """Note each request in place of sending it, and answer that all is well."""
    requests: list[httpx.Request] = []

    def answer(_transport: object, request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json=KeptPoint(point_id=uuid.uuid4()).to_json())

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)
    return requests


def test_a_peer_is_given_time_to_read_all_that_it_has_to_prove(asked: list[httpx.Request]) -> None:
    with PeerClient("192.0.2.1", 8001, this_core().certificate_pem) as client:
        client.restart_rescue_machine(uuid.uuid4(), uuid.uuid4())
        for size_bytes in (0, 100 * GIGABYTE):
            client.commit_replica(uuid.uuid4(), str(uuid.uuid4()), size_bytes)
    usual, small, large = (request.extensions["timeout"]["read"] for request in asked)
    assert usual == small == ANSWER_TIMEOUT_SECONDS
    # A slow disk reads 20 MB in a second.
    assert large > 100 * GIGABYTE / 20_000_000
