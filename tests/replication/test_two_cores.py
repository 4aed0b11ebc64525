"""Two whole cores that nobody of this process is: set up and looked at by their own commands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.places.peer_core import PeerCore
from tests.places.ports import free_port

pytestmark = pytest.mark.slow

REFRESH = "from replication.heartbeat import refresh_cores; refresh_cores()"
STATE = "SELECT direction, peer_name, connection_state, is_paused_by_peer FROM replication_pairing"


@pytest.fixture
def source(tmp_path: Path) -> Iterator[PeerCore]:
    core = PeerCore(tmp_path / "source", "Headquarters", free_port())
    core.set_up()
    core.start()
    yield core
    core.stop()


def test_each_core_sees_the_other_and_its_pauses_and_its_silence(
    source: PeerCore, peer: PeerCore
) -> None:
    source.manage(
        *("add_target_core", "--host", "127.0.0.1", "--port", str(peer.port)),
        answer=peer.pairing_code,
    )
    assert source.rows(STATE) == [("outgoing", "DR site", "online", 0)]
    peer.manage("shell", "-c", REFRESH)
    assert peer.rows(STATE) == [("incoming", "Headquarters", "online", 0)]
    source.rows("UPDATE replication_pairing SET is_paused = 1")
    peer.manage("shell", "-c", REFRESH)
    assert peer.rows(STATE) == [("incoming", "Headquarters", "online", 1)]
    source.stop()
    peer.manage("shell", "-c", REFRESH)
    assert peer.rows(STATE) == [("incoming", "Headquarters", "unreachable", 1)]
    ((error, since),) = peer.rows(
        "SELECT connection_error, unreachable_since FROM replication_pairing"
    )
    assert "Headquarters at 127.0.0.1" in error
    assert since is not None
