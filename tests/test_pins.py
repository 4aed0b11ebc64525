"""Every package is pinned with hashes, and every one that we chose has a reason beside it."""

import os
import re
import subprocess
from importlib.metadata import metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parent.parent
BOTH = pytest.mark.parametrize("name", ["requirements", "requirements-dev"])


def chosen(name: str) -> list[tuple[str, str]]:
    """Return what a list asks for, and the reasons that it gives."""
    lines = (ROOT / f"{name}.in").read_text().splitlines()
    parts = [line.partition("#") for line in lines if line[:1] not in ("", "#", "-")]
    return [(pin.strip(), reason.strip()) for pin, _, reason in parts]


def pinned(name: str) -> dict[str, str]:
    """Return the pins of a file, `name==version`, each with all that is said of it."""
    text = (ROOT / f"{name}.txt").read_text()
    entries = re.findall(r"^(?![ #])(\S+)((?:.*\\\n)*.*)$", text, re.MULTILINE)
    return {pin: rest.replace("\\\n", " ") for pin, rest in entries}


def normal(pin: str) -> str:
    """Return a pin as the files have it: lower case, hyphens, no extras."""
    package, _, version = pin.partition("==")
    return f"{re.sub(r'[-_.]+', '-', package.partition('[')[0]).lower()}=={version}"


@BOTH
def test_what_is_chosen_has_a_version_and_a_reason(name: str) -> None:
    assert chosen(name)
    for pin, reason in chosen(name):
        assert re.fullmatch(r"[\w.-]+(\[\w+\])?==[\w.]+", pin)
        assert len(reason) > 3, pin


@BOTH
def test_what_is_chosen_is_what_is_pinned(name: str) -> None:
    """`make pins` was run."""
    assert {normal(pin) for pin, _ in chosen(name)} <= pinned(name).keys()


@BOTH
def test_every_pin_has_a_version_and_hashes(name: str) -> None:
    for pin, rest in pinned(name).items():
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+", pin)
        assert re.search(r" --hash=sha256:[0-9a-f]{64}\b", rest), pin


def test_tests_run_with_what_a_core_runs_with() -> None:
    assert pinned("requirements").items() <= pinned("requirements-dev").items()


@pytest.mark.parametrize("name", ["blake3", "isal"])
def test_what_an_agent_needs_is_there_for_every_python_that_it_runs_on(name: str) -> None:
    supported = SpecifierSet(metadata(name)["Requires-Python"] or "")
    assert [minor for minor in range(9, 14) if f"3.{minor}" not in supported] == []
    assert f"{name}=={metadata(name)['Version']}" in pinned("requirements")


@pytest.mark.full
def test_an_audit_that_cannot_ask_does_not_pass() -> None:
    nowhere = "http://127.0.0.1:9"
    done = subprocess.run(
        ["make", "audit"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "HTTPS_PROXY": nowhere, "https_proxy": nowhere, "NO_PROXY": ""},
    )
    assert done.returncode != 0
    assert "make audit: not passed" in done.stderr
