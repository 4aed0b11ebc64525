"""Descriptions kept in rows and manifests: what is wrong in one is left out of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.client.description import MachineDescription
from agent.protocol import Channel
from console.identity import this_core
from protected_machines.agents.connection import refresh_connections
from protected_machines.choices import ConnectionState
from protected_machines.models.descriptions import read_description
from tests.agent.hostile_agent import HELLO, answering_once
from tests.factories import DESCRIPTION, make_machine

DISK = DESCRIPTION["disks"][0]


def test_a_right_description_is_read_whole() -> None:
    assert read_description(DESCRIPTION) == MachineDescription.from_json(DESCRIPTION)


@pytest.mark.parametrize("value", [None, [], "web-01", 7])
def test_what_is_no_description_is_an_empty_one(value: object) -> None:
    assert read_description(value) == MachineDescription()


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"cpus": "two"}, {"cpus": 0}),
        ({"firmware": 7}, {"firmware": ""}),
        ({"nics": "none"}, {"nics": []}),
        ({"initramfs_drivers": ["ahci", 7]}, {"initramfs_drivers": ["ahci"]}),
        ({"disks": [{**DISK, "capacity_bytes": -1}, DISK]}, {"disks": [DISK]}),
        ({"disks": [DISK, DISK]}, {"disks": []}),
        ({"trusted_cores": [{"name": "DR site"}]}, {"trusted_cores": []}),
        ({"agent": None, "disks": 7}, {"agent": {}, "disks": []}),
    ],
)
def test_a_wrong_part_is_left_out_and_the_rest_is_read(
    wrong: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = read_description({**DESCRIPTION, **wrong})
    assert found == MachineDescription.from_json({**DESCRIPTION, **expected})


@pytest.mark.django_db
def test_an_agent_that_describes_its_machine_wrongly_is_told_on_that_machine(
    tmp_path: Path,
) -> None:
    def script(channel: Channel) -> None:
        channel.send_control(HELLO)
        channel.receive_control("describe")
        channel.send_control({"type": "description", "description": {"cpus": "two"}})
        channel.drain(10)

    core: Any = SimpleNamespace(certificate_pem=this_core().certificate_pem)
    with answering_once(tmp_path, core, script) as port:
        machine = make_machine(
            host="127.0.0.1",
            port=port,
            agent_certificate_pem=(tmp_path / "agent.pem").read_text(),
        )
        assert refresh_connections() == 1
    machine.refresh_from_db()
    assert machine.connection_state == ConnectionState.ONLINE
    assert "cpus is 'two', expected a number" in machine.connection_error
    assert machine.description == DESCRIPTION
    # It is not first in line again before it has been left alone for a while.
    assert refresh_connections() == 0
