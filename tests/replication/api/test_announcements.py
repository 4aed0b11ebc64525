"""A machine announces itself to a core that really listens, as its own agent does."""

import json
import ssl
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.backends.sqlite3.base import DatabaseWrapper

from agent.announcing import ANNOUNCEMENT_PATH, Announcer
from agent.home import Home
from agent.tls import core_context, ensure_identity
from protected_machines.models import Machine
from tests.factories import make_machine
from tests.places.peer_core import PeerCore
from tests.places.waiting import wait_until

LIMIT_SECONDS = 60
sqlite = DatabaseWrapper({**connection.settings_dict, "ENGINE": "django.db.backends.sqlite3"})
BOOT = {"boot_id": "boot-1", "port": 8006, "addresses": ["192.0.2.7"]}


@dataclass
class Known:
    """A machine that the other core knows."""

    core: PeerCore
    folder: Path
    machine_id: uuid.UUID

    def announce(self, **changes: Any) -> None:
        """Announce it once, as its agent does."""
        certificate, key = ensure_identity(self.folder, "db-01")
        home = Home("127.0.0.1", self.core.port, self.core.certificate_pem, str(self.machine_id))
        Announcer(certificate, key, lambda: [home], lambda: {**BOOT, **changes}).look()

    def rows(self) -> list[tuple[Any, ...]]:
        columns = "boot_id, port, addresses"
        return self.core.rows(f"SELECT {columns} FROM protected_machines_announcement")


@pytest.fixture
def known(peer: PeerCore, db: None, tmp_path: Path) -> Iterator[Known]:
    pem = ensure_identity(tmp_path, "db-01")[0].read_text()
    machine = make_machine(name="db-01", agent_certificate_pem=pem)
    row = {
        field.column: field.get_db_prep_save(field.value_from_object(machine), sqlite)
        for field in Machine._meta.concrete_fields
    }
    marks = ", ".join("?" for _ in row)
    names = ", ".join(row)
    peer.rows(f"INSERT INTO protected_machines_machine ({names}) VALUES ({marks})", *row.values())
    yield Known(peer, tmp_path, machine.pk)
    peer.forget_everything()


def post(core: PeerCore, context: ssl.SSLContext, body: bytes) -> int:
    connection = HTTPSConnection("127.0.0.1", core.port, timeout=30, context=context)
    try:
        connection.request("POST", ANNOUNCEMENT_PATH, body)
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_new_machine_is_heard_by_its_certificate(known: Known) -> None:
    def is_heard() -> bool:
        known.announce()
        return bool(known.rows())

    wait_until(is_heard, "the core to notice that there is another machine", LIMIT_SECONDS)
    assert known.rows() == [("boot-1", 8006, '["127.0.0.1", "192.0.2.7"]')]
    known.announce(boot_id="boot-1", addresses=["192.0.2.8"])
    assert known.rows() == [("boot-1", 8006, '["127.0.0.1", "192.0.2.8"]')]


def test_strangers_are_turned_away_and_nothing_is_written(known: Known, tmp_path: Path) -> None:
    body = json.dumps({**BOOT, "machine_id": str(known.machine_id)}).encode()
    (tmp_path / "stranger").mkdir()
    stranger = ensure_identity(tmp_path / "stranger", "db-01")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        post(known.core, core_context(*stranger), body)
    assert post(known.core, core_context(None, None), body) == 422
    assert known.rows() == []


def test_no_more_than_a_few_kib_are_read(known: Known) -> None:
    body = json.dumps({**BOOT, "machine_id": str(known.machine_id)}).encode()
    for padding in (5_000, 100_000):
        status = post(known.core, core_context(None, None), body + b" " * padding)
        assert status == 400
    assert known.rows() == []
