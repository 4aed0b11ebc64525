"""`python -m rescue_medium build` writes the medium, or says what it lacks."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rescue_medium.debian import listed, missing_packages
from rescue_medium.facts import read_facts
from rescue_medium.medium import NEEDS_LIST, ensure_medium
from rescue_medium.sources import ROOT, sources_digest


def run_build(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rescue_medium", "build", *arguments],
        capture_output=True,
        text=True,
        timeout=900,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def test_it_writes_the_file_and_tells_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "medium.iso"
    path.write_bytes(b"an older one")
    done = run_build("--output", str(path))
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == ensure_medium().read_bytes()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    facts = read_facts(path)
    assert done.stdout == (
        f"{path}: version {facts.version}, {facts.size_bytes} bytes, SHA-256 {digest}\n"
    )
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run_build("--output", str(tmp_path / "nowhere/medium.iso"))
    assert done.returncode == 1
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder for PATH with a dpkg-query that knows of next to nothing."""
    folder = tmp_path / "programs"
    folder.mkdir()
    query = folder / "dpkg-query"
    query.write_text("#!/bin/sh\nprintf 'ii  cpio\\nrc  zstd\\nii  xorriso\\n'\n")
    query.chmod(0o755)
    return folder


def test_packages_that_are_missing_are_told_with_their_command(
    programs: Path, tmp_path: Path
) -> None:
    script = (
        "import sys, rescue_medium.medium as m; from pathlib import Path\n"
        "try: m.ensure_medium(Path(sys.argv[1]))\n"
        "except m.CannotBuild as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(
        "run: apt-get install --no-install-recommends mmdebstrap zstd isolinux syslinux-common "
        "mtools\n"
    )


def test_nothing_is_missing_here() -> None:
    assert missing_packages(listed(NEEDS_LIST)) == []


def test_what_stays_on_the_core_rebuilds_nothing(tmp_path: Path) -> None:
    agent = ROOT / "agent"
    whole = sources_digest("", (agent,), ())
    without = sources_digest("", (), [path for path in agent.rglob("*.py") if path.is_file()])
    assert sources_digest("", (agent / "client",), ()) == sources_digest("", (), ())
    assert whole != without
