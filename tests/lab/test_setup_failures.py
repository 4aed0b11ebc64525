"""When the set-up fails, it says what to do."""

import ast
import dataclasses
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lab.advice import SetupFailed, advise, explain, refuse_full_disk
from lab.places import Ports, refuse_taken
from lab.prepare import has_venv, is_usable, unfit_python
from lab.setup import install_packages, wanted_packages
from rescue_medium.commands import CommandFailed

NOT_THERE = "no-such-package-anywhere"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of the search path, for someone who is not root; dpkg-query is in it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "dpkg-query").symlink_to(shutil.which("dpkg-query") or "")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return folder


def test_without_root_and_sudo_the_one_line_for_root_is_said(programs: Path) -> None:
    with pytest.raises(SetupFailed, match="sudo is not installed") as failed:
        install_packages([NOT_THERE, "dpkg"])
    line = str(failed.value).splitlines()[-1].strip()
    assert line.startswith(f"apt-get install --no-install-recommends {NOT_THERE}")
    assert "dpkg" not in line.split()


def test_sudo_is_used_where_it_is(programs: Path, tmp_path: Path) -> None:
    said = tmp_path / "said"
    (programs / "sudo").write_text(f'#!/bin/sh\necho "$@" >>{said}\n')
    (programs / "sudo").chmod(0o755)
    install_packages([NOT_THERE])
    first, second = said.read_text().splitlines()
    assert first.startswith("apt-get")
    assert first.endswith("update")
    assert second.startswith("apt-get")
    assert second.endswith(f"--no-install-recommends {NOT_THERE}")


def test_a_refusal_of_sudo_ends_with_the_line_for_root(programs: Path) -> None:
    sudo = programs / "sudo"
    sudo.write_text(
        "#!/bin/sh\n"
        "echo 'sudo: unable to resolve host vm: Name or service not known' >&2\n"
        "echo 'sudo: a password is required' >&2\n"
        "exit 1\n"
    )
    sudo.chmod(0o755)
    with pytest.raises(SetupFailed, match="You may not use sudo") as failed:
        install_packages([NOT_THERE])
    assert (
        str(failed.value)
        .splitlines()[-1]
        .startswith(f"    apt-get install --no-install-recommends {NOT_THERE}")
    )


def test_a_system_without_dpkg_is_named(programs: Path) -> None:
    (programs / "dpkg-query").unlink()
    with pytest.raises(SetupFailed, match="Debian 12 or 13"):
        install_packages(wanted_packages())


def test_what_is_installed_needs_nobody(programs: Path) -> None:
    install_packages(["dpkg"])


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_a_fit_python_is_taken(version: tuple[int, int]) -> None:
    assert unfit_python(version) is None


@pytest.mark.parametrize("version", [(3, 9), (3, 10), (3, 14), (4, 0)])
def test_an_unfit_python_is_told_what_is_needed(version: tuple[int, int]) -> None:
    said = unfit_python(version) or ""
    assert f"This is Python {version[0]}.{version[1]}" in said
    assert "make PYTHON=" in said


def test_an_old_python_gets_far_enough_to_be_judged() -> None:
    source = (Path(__file__).resolve().parents[2] / "lab/prepare.py").read_text()
    imported = [
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.parse(source, feature_version=(3, 9)).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert imported == ["__future__", "subprocess", "sys", "pathlib"]


def test_an_environment_is_judged_by_running_it(tmp_path: Path) -> None:
    assert has_venv()
    assert is_usable(Path(sys.prefix))
    assert not is_usable(tmp_path / "none")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to("/nowhere/python3")
    assert not is_usable(tmp_path)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("E: Write error - write (28: No space left on device)", "The disk is full"),
        ("OSError: [Errno 28] No space left on device: '/x'", "The disk is full"),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", "The disk is full"),
        (
            "W: Temporary failure resolving\nE: Could not resolve 'deb.debian.org'",
            "No package server",
        ),
        ("ERROR: Could not find Django==5.2.19 (from versions: none)", "No package server"),
        ("NewConnectionError: Failed to establish a new connection", "No package server"),
        ("E: Unable to locate package syslinux", "Debian 12 (bookworm) and 13"),
        ("ERROR: No matching distribution found for isal==1.9.1", "make PYTHON="),
        ("sudo: a terminal is required to read the password", "Ask root to do it"),
        ("E: Could not get lock /var/lib/dpkg/lock-frontend", "Wait until it has finished"),
        (
            "PermissionError: [Errno 13] Permission denied: '.cache/guest/lock'",
            "own the checkout",
        ),
    ],
)
def test_a_known_failure_says_what_to_do(said: str, advice: str) -> None:
    assert advice in advise(said)
    assert explain(CommandFailed(said)).startswith(said)


def test_a_disk_without_room_is_refused_before_anything_begins(tmp_path: Path) -> None:
    refuse_full_disk(tmp_path / "not/there/yet", 1)
    with pytest.raises(SetupFailed, match="MiB are free"):
        refuse_full_disk(tmp_path / "not/there/yet", 1 << 62)


def test_an_unknown_failure_is_said_as_it_is() -> None:
    assert explain(CommandFailed("sfdisk: exit 1")) == "sfdisk: exit 1"


def test_a_port_in_use_is_named_with_two_ways_out() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        ports = dataclasses.replace(Ports.shifted(45_000), target_console=port)
        with pytest.raises(SetupFailed, match=rf"\b{port}\b.*UNDERSTUDY_PORT_SHIFT"):
            refuse_taken(ports)


def test_a_failure_on_the_command_line_has_no_traceback(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-m", "lab", "setup"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Use Debian 12 or 13" in done.stderr
    assert "Traceback" not in done.stderr
