"""A suspended machine resumes where it stopped, without a boot."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.guest.clock import LARGEST_ERROR_SECONDS
from lab.guest.machines import get_machine
from lab.source_machines import MEMORY_FILE, SourceMachine
from lab.suspended import ensure_suspended
from tests.places.ports import free_port
from tests.places.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.guests]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[SourceMachine]:
    machine = SourceMachine(get_machine("db-01"), tmp_path, free_port("127.0.1.12"))
    machine.ensure_disks(image := ensure_suspended("db-01"))
    assert image.memory is not None
    suspended_at = image.memory.stat().st_mtime
    # Suspended just now, it would resume with a clock that is still right.
    wait_until(lambda: time.time() - suspended_at > 2 * LARGEST_ERROR_SECONDS, "a wrong clock")
    yield machine
    machine.guest.kill()


def test_it_goes_on_once_and_knows_the_time(machine: SourceMachine) -> None:
    machine.start()
    line = re.compile(r"lab: the clock is set to (\d+)\s")
    wait_until(lambda: line.search(machine.console_text()), "its clock", 240, machine.console_text)
    said = line.search(machine.console_text())
    assert said is not None
    assert abs(int(said[1]) - time.time()) < 60
    # Its disks have moved on; from here the machine can only boot.
    assert not (machine.folder / MEMORY_FILE).exists()
