"""A suspended machine resumes where it stopped, without a boot."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.guest.machines import get_machine
from lab.source_machines import MEMORY_FILE, SourceMachine
from lab.suspended import ensure_suspended
from lab.tools_link import ToolsLink
from tests.places.ports import free_port
from tests.places.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.guests]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[SourceMachine]:
    machine = SourceMachine(get_machine("db-01"), tmp_path, free_port("127.0.1.12"))
    machine.ensure_disks(ensure_suspended("db-01"))
    yield machine
    machine.guest.kill()


def test_it_goes_on_once_and_knows_the_time(machine: SourceMachine) -> None:
    machine.start()
    link = ToolsLink(machine.guest.tools_socket)
    try:
        wait_until(lambda: link.facts(float("inf")), "the machine", 240, machine.console_text)
        facts = link.facts(float("inf"))
    finally:
        link.close()
    assert facts is not None
    assert facts["hostname"] == "db-01"
    assert abs(facts["clock"] - time.time()) < 60
    # Its disks have moved on; from here the machine can only boot.
    assert not (machine.folder / MEMORY_FILE).exists()
