"""One core that cannot be spoken with keeps out no other."""

import pytest

from protected_machines.choices import ConnectionState
from replication import heartbeat
from tests.replication.rows import make_pairing

pytestmark = pytest.mark.django_db


def test_a_pairing_that_cannot_be_read_keeps_out_no_other() -> None:
    make_pairing(peer_name="A", port=70_000)
    sound = make_pairing(peer_name="B")
    heartbeat.refresh_cores()
    sound.refresh_from_db()
    assert sound.connection_state == ConnectionState.UNREACHABLE
