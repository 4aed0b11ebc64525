"""What dies is started again, but not in a hurry, and not when it is no longer wanted."""

import signal
import sys
from pathlib import Path

import pytest

from lab.programs import Program, clean_environment
from lab.supervisor import Supervisor, in_parallel
from tests.places.waiting import wait_until


@pytest.fixture
def program(tmp_path: Path):
    script = "print('up', flush=True)\nimport time\ntime.sleep(300)"
    program = Program("sleeper", "source", (sys.executable, "-c", script), {}, tmp_path)
    yield program
    program.kill()


def starts(program: Program) -> int:
    return program.log_path.read_text().count("up") if program.log_path.exists() else 0


def test_a_program_that_dies_is_started_again_and_noted(program: Program) -> None:
    said: list[str] = []
    supervisor = Supervisor(lambda: [program], said.append)
    supervisor.start()
    try:
        wait_until(lambda: starts(program) == 1, "the first start", 30)
        assert said == []
        program.process.send(signal.SIGKILL)
        wait_until(lambda: starts(program) == 2, "the second start", 30)
        assert said == ["sleeper has ended. Restarting it"]
    finally:
        supervisor.stop()


def test_a_program_that_cannot_live_is_started_ever_more_rarely(tmp_path: Path) -> None:
    program = Program("false", "source", ("/bin/false",), {}, tmp_path)
    said: list[str] = []
    supervisor = Supervisor(lambda: [program], said.append)
    for _ in range(50):
        supervisor.poll_once()
        wait_until(lambda: not program.is_running, "its end", 10)
    assert len(said) <= 2


def test_a_program_that_is_not_there_is_said_and_nothing_else_is_kept_up(
    program: Program, tmp_path: Path
) -> None:
    missing = Program("missing", "source", ("/no/such/program",), {}, tmp_path)
    said: list[str] = []
    supervisor = Supervisor(lambda: [missing, program], said.append)
    supervisor.poll_once()
    assert "missing does not start" in said[0]
    assert program.is_running


def test_what_is_no_longer_wanted_is_not_started(program: Program) -> None:
    wanted = [program]
    supervisor = Supervisor(lambda: list(wanted), lambda text: None)
    supervisor.poll_once()
    assert program.is_running
    wanted.clear()
    program.kill()
    supervisor.poll_once()
    assert not program.is_running


def test_a_killed_program_takes_its_children_with_it(tmp_path: Path) -> None:
    script = "sleep 300 & sleep 300 & wait"
    program = Program("family", "source", ("/bin/sh", "-c", script), {}, tmp_path)
    program.start()
    wait_until(lambda: len(program.process.descendants()) == 2, "the children", 10)
    family = program.process.descendants()
    program.kill()
    wait_until(lambda: not any(child.is_running for child in family), "their end", 10)
    assert not program.is_running


def test_another_process_finds_and_ends_a_program(program: Program, tmp_path: Path) -> None:
    program.start()
    same = Program("sleeper", "source", program.command, {}, tmp_path)
    assert same.is_running
    same.end()
    assert not same.is_running
    assert not program.is_running


def test_the_environment_of_one_core_does_not_leak_into_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UNDERSTUDY_CORE_NAME", "Somebody else")
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/x")
    environment = clean_environment(UNDERSTUDY_HOME="/lab/target")
    assert environment["UNDERSTUDY_HOME"] == "/lab/target"
    assert "UNDERSTUDY_CORE_NAME" not in environment
    assert "DATABASE_URL" not in environment


def test_the_first_failure_of_parallel_acts_is_raised_after_all_have_ended() -> None:
    done = []

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        in_parallel([fail, lambda: done.append(1), lambda: done.append(2)])
    assert sorted(done) == [1, 2]


def test_what_was_not_wanted_for_a_while_has_not_ended_by_itself(program: Program) -> None:
    said: list[str] = []
    wanted = [program]
    supervisor = Supervisor(lambda: wanted, said.append)
    supervisor.poll_once()
    wait_until(lambda: starts(program) == 1, "the first start", 30)
    wanted.clear()
    supervisor.poll_once()
    program.kill()
    wanted.append(program)
    supervisor.poll_once()
    wait_until(lambda: starts(program) == 2, "the second start", 30)
    assert said == []
