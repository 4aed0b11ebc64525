"""What the installer puts into a tree is enough to run the agent from there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.install import InstallFailed, install_into, install_rescue


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root tree with this Python and nothing else."""
    tree = tmp_path / "tree"
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/python3").symlink_to(f"python3.{sys.version_info[1]}")
    return tree


def run_installed(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed agent with nothing of this project in its way."""
    home = tree / "opt/understudy-agent"
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{home}:{home / 'vendor'}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        [sys.executable, "-s", "-S", *arguments],
        env=environment,
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_installed_agent_imports_nothing_from_elsewhere(tree: Path) -> None:
    install_into(tree, "INSTALL-CODE-1")

    script = (
        "import agent.__main__, recovery_store.vmdk.imaging, recovery_store.vmdk.deflate as d\n"
        "import isal, blake3, sys\n"
        "print(d.isal_zlib.__name__, agent.__file__, blake3.__file__, sep='\\n')"
    )
    done = run_installed(tree, "-c", script)

    assert done.returncode == 0, done.stderr
    library, *files = done.stdout.split()
    assert library == "isal.isal_zlib"
    assert all(file.startswith(str(tree)) for file in files)


def test_a_machine_gets_every_module_but_those_that_only_a_core_uses(tree: Path) -> None:
    install_rescue(tree)

    script = (
        "import agent, importlib, pkgutil\n"
        "for module in pkgutil.walk_packages(agent.__path__, 'agent.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
        "    print(module.name)"
    )
    done = run_installed(tree, "-c", script)

    assert done.returncode == 0, done.stderr
    names = set(done.stdout.split())
    assert {"agent.__main__", "agent.protecting", "agent.rescue.duty"} <= names
    assert not [name for name in names if name.startswith("agent.client")]


def test_the_configuration_is_private_and_the_service_enabled(tree: Path) -> None:
    install_into(tree, "INSTALL-CODE-1", port=8123, provider="fsfreeze")

    configuration = tree / "etc/understudy-agent/agent.json"
    assert configuration.stat().st_mode & 0o777 == 0o600
    assert json.loads(configuration.read_text()) == {
        "port": 8123,
        "pairing_code": "INSTALL-CODE-1",
        "provider": "fsfreeze",
    }
    wanted = tree / "etc/systemd/system/multi-user.target.wants/understudy-agent.service"
    assert (tree / str(wanted.readlink()).lstrip("/")).is_file()
    for name in ("hooks", "scripts/local-top"):
        assert os.access(tree / "etc/initramfs-tools" / name / "understudy", os.X_OK)


def test_installing_again_replaces_the_agent_and_keeps_its_state(tree: Path) -> None:
    install_into(tree, "INSTALL-CODE-1")
    state = tree / "var/lib/understudy-agent/trusted-cores.json"
    state.write_text("[]")
    leftover = tree / "opt/understudy-agent/agent/from_an_older_release.py"
    leftover.touch()

    install_into(tree, "INSTALL-CODE-2")

    assert state.read_text() == "[]"
    assert not leftover.exists()


def test_a_tree_without_python_is_refused_untouched(tmp_path: Path) -> None:
    with pytest.raises(InstallFailed, match="no usr/bin/python3"):
        install_into(tmp_path, "INSTALL-CODE-1")

    assert list(tmp_path.iterdir()) == []


def test_a_python_that_is_too_old_is_refused(tree: Path) -> None:
    (tree / "usr/bin/python3").unlink()
    (tree / "usr/bin/python3").symlink_to("python3.7")

    with pytest.raises(InstallFailed, match=r"python3\.7"):
        install_into(tree, "INSTALL-CODE-1")


@pytest.mark.parametrize("script", ["hooks/understudy", "scripts/local-top/understudy"])
def test_the_initramfs_scripts_are_shell_and_name_what_they_need(tree: Path, script: str) -> None:
    install_into(tree, "INSTALL-CODE-1")
    path = tree / "etc/initramfs-tools" / script

    subprocess.run(["dash", "-n", str(path)], check=True, timeout=30)
    done = subprocess.run(
        ["dash", str(path), "prereqs"], check=True, timeout=30, capture_output=True, text=True
    )

    assert done.stdout.strip() in ("dmsetup", "udev")
