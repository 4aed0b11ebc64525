"""`understudy-agent`: codes for the person at the machine, and errors in one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.configuration import Configuration
from agent.providers.choice import choose_provider


def run_agent(folder: Path, command: str, **settings: object) -> subprocess.CompletedProcess[str]:
    configuration = folder / "agent.json"
    configuration.write_text(json.dumps({"state_folder": str(folder / "state"), **settings}))
    return subprocess.run(
        [sys.executable, "-m", "agent", command, "--configuration", str(configuration)],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_code_is_made_once_and_shown_again(tmp_path: Path) -> None:
    first, second = (run_agent(tmp_path, "show-code").stdout for _ in range(2))
    assert first == second
    assert len(first.strip()) == len("ABCD-EFGH-JKLM-NPQR")


def test_the_configured_code_is_shown_until_a_new_one_is_made(tmp_path: Path) -> None:
    assert (
        run_agent(tmp_path, "show-code", pairing_code="GIVEN-CODE-1000000").stdout
        == "GIVEN-CODE-1000000\n"
    )
    new = run_agent(tmp_path, "new-code", pairing_code="GIVEN-CODE-1000000").stdout
    assert new != "GIVEN-CODE-1000000\n"
    assert run_agent(tmp_path, "show-code", pairing_code="GIVEN-CODE-1000000").stdout == new


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"port": "many"}, "AGENT-CONFIGURATION-WRONG: Reading"),
        ({"pairing_code": "short"}, "AGENT-CONFIGURATION-WRONG: The pairing code needs"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "restore", "show-code"])
def test_what_is_wrong_is_one_line(
    tmp_path: Path, command: str, settings: dict[str, object], said: str
) -> None:
    if command == "restore":
        # Else its state would be in /run.
        settings = {"mode": "restore", **settings}
    done = run_agent(tmp_path, command, **settings)
    assert done.returncode == 1
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("provider", "name"),
    [("fsfreeze", "fsfreeze"), ("auto", "fsfreeze"), ("device_mapper", "device_mapper")],
)
def test_without_the_layer_there_is_a_provider_that_can_say_so(provider: str, name: str) -> None:
    """No disk of this computer has the layer."""
    assert choose_provider(Configuration(provider=provider)).name == name
