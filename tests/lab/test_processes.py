"""Only the lab's own processes are ever ended."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from lab.processes import OwnProcess, find_process, write_record


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "300"])
    yield process
    process.kill()
    process.wait()


def test_a_recorded_process_is_found_and_ended(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    write_record(tmp_path / "run" / "sleeper.json", OwnProcess.of(sleeper.pid))
    process = find_process(tmp_path / "run" / "sleeper.json")
    assert process is not None
    assert process.pid == sleeper.pid
    process.end(grace_seconds=10)
    assert sleeper.wait(10) == -signal.SIGTERM
    assert find_process(tmp_path / "run" / "sleeper.json") is None


def test_a_process_with_the_same_number_but_another_start_is_left_alone(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    mine = OwnProcess.of(sleeper.pid)
    stranger = replace(mine, started_ticks=mine.started_ticks - 1)
    write_record(tmp_path / "stranger.json", stranger)
    assert find_process(tmp_path / "stranger.json") is None
    stranger.end()
    stranger.kill()
    assert not stranger.send(signal.SIGKILL)
    assert sleeper.poll() is None


def test_a_process_of_an_earlier_boot_of_this_computer_is_left_alone(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    earlier = replace(OwnProcess.of(sleeper.pid), host_boot_id="another")
    assert not earlier.is_running
    earlier.kill()
    assert sleeper.poll() is None


def test_a_dead_child_that_nobody_collected_does_not_run(tmp_path: Path) -> None:
    child = subprocess.Popen(["sleep", "300"])
    process = OwnProcess.of(child.pid)
    os.kill(child.pid, signal.SIGKILL)
    assert process.wait(10)
    assert not process.is_running
    child.wait()


@pytest.mark.parametrize("text", ["", "{", "{}", json.dumps({"pid": 1}), "[1]"])
def test_a_broken_record_names_no_process(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken.json").write_text(text)
    assert find_process(tmp_path / "broken.json") is None


def test_descendants_are_children_and_their_children() -> None:
    shell = subprocess.Popen(["sh", "-c", "sh -c 'sleep 300 & wait' & wait"])
    process = OwnProcess.of(shell.pid)
    try:
        while len(family := process.descendants()) < 2:
            pass
        assert all(member.is_running for member in family)
    finally:
        for member in [process, *process.descendants()]:
            member.kill()
        shell.wait()
    assert not any(member.is_running for member in family)


def test_a_process_that_ignores_the_request_is_killed() -> None:
    stubborn = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"],
        stdout=subprocess.PIPE,
    )
    assert stubborn.stdout is not None
    assert stubborn.stdout.readline() == b"ready\n"
    process = OwnProcess.of(stubborn.pid)
    assert set(asdict(process)) == {"pid", "started_ticks", "host_boot_id"}
    process.end(grace_seconds=0.3)
    assert stubborn.wait(10) == -signal.SIGKILL
    stubborn.stdout.close()


def test_a_process_tells_how_long_it_was_busy(sleeper: subprocess.Popen[bytes]) -> None:
    asleep = OwnProcess.of(sleeper.pid)
    assert asleep.cpu_seconds < OwnProcess.of(os.getpid()).cpu_seconds
    sleeper.kill()
    sleeper.wait()
    assert asleep.cpu_seconds == 0
