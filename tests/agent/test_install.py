"""What the installer puts into a tree is enough to run the agent from there."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
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
    install_into(tree, "INSTALL-CODE-100000")

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
    install_into(tree, "INSTALL-CODE-100000", port=8123, provider="fsfreeze")

    configuration = tree / "etc/understudy-agent/agent.json"
    assert configuration.stat().st_mode & 0o777 == 0o600
    assert json.loads(configuration.read_text()) == {
        "port": 8123,
        "pairing_code": "INSTALL-CODE-100000",
        "provider": "fsfreeze",
    }
    wanted = tree / "etc/systemd/system/multi-user.target.wants/understudy-agent.service"
    assert (tree / str(wanted.readlink()).lstrip("/")).is_file()
    for name in ("hooks", "scripts/local-top"):
        assert os.access(tree / "etc/initramfs-tools" / name / "understudy", os.X_OK)


def test_installing_again_replaces_the_agent_and_keeps_its_state(tree: Path) -> None:
    install_into(tree, "INSTALL-CODE-100000")
    state = tree / "var/lib/understudy-agent/trusted-cores.json"
    state.write_text("[]")
    leftover = tree / "opt/understudy-agent/agent/from_an_older_release.py"
    leftover.touch()

    install_into(tree, "INSTALL-CODE-200000")

    assert state.read_text() == "[]"
    assert not leftover.exists()


def test_a_tree_without_python_is_refused_untouched(tmp_path: Path) -> None:
    with pytest.raises(InstallFailed, match="python3 is missing"):
        install_into(tmp_path, "INSTALL-CODE-100000")

    assert list(tmp_path.iterdir()) == []


def test_a_python_that_is_too_old_is_refused(tree: Path) -> None:
    (tree / "usr/bin/python3").unlink()
    (tree / "usr/bin/python3").symlink_to("python3.7")

    with pytest.raises(InstallFailed, match=r"python3\.7"):
        install_into(tree, "INSTALL-CODE-100000")


@pytest.mark.parametrize("script", ["hooks/understudy", "scripts/local-top/understudy"])
def test_the_initramfs_scripts_are_shell_and_name_what_they_need(tree: Path, script: str) -> None:
    install_into(tree, "INSTALL-CODE-100000")
    path = tree / "etc/initramfs-tools" / script

    subprocess.run(["dash", "-n", str(path)], check=True, timeout=30)
    done = subprocess.run(
        ["dash", str(path), "prereqs"], check=True, timeout=30, capture_output=True, text=True
    )

    assert done.stdout.strip() in ("dmsetup", "udev")


def run_installer(
    *arguments: str, project: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent.install", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


def test_the_command_installs_and_says_what_is_left_to_do(tree: Path, tmp_path: Path) -> None:
    code_file = tmp_path / "code"
    code_file.write_text("INSTALL-CODE-100000\n")
    done = run_installer(str(tree), "--code-file", str(code_file), "--port", "8123")
    assert done.returncode == 0, done.stderr
    assert "update-initramfs -u -k all" in done.stdout
    configuration = json.loads((tree / "etc/understudy-agent/agent.json").read_text())
    assert (configuration["port"], configuration["pairing_code"]) == (8123, "INSTALL-CODE-100000")


def test_the_command_puts_only_the_program_onto_a_medium(tree: Path) -> None:
    done = run_installer(str(tree), "--rescue")
    assert done.returncode == 0, done.stderr
    assert os.access(tree / "usr/local/bin/understudy-agent", os.X_OK)
    assert not (tree / "etc").exists()


def test_the_command_says_in_one_line_why_it_cannot(tmp_path: Path) -> None:
    done = run_installer(str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("AGENT-INSTALL-FAILED: Installing into")
    assert done.stderr.count("\n") == 1


def make_wheel(folder: Path, name: str, version: str, tag: str) -> str:
    """Make a wheel that only a Python of that tag takes; return its hash as pip writes it."""
    info = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-{tag}-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", f"TAG = {tag!r}\n")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return f"--hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.fixture
def copy_with_wheels(tree: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the project that pins wheels made here, for a tree with Python 3.9; the wheels."""
    (tree / "usr/bin/python3").unlink()
    (tree / "usr/bin/python3").symlink_to("python3.9")
    copy, wheels = tmp_path / "copy", tmp_path / "wheels"
    for package in ("agent", "recovery_store"):
        shutil.copytree(package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    wheels.mkdir()
    lines = []
    for name in ("isal", "blake3"):
        hashes = [make_wheel(wheels, name, "1.0", tag) for tag in ("cp39", "cp313")]
        lines += [f"{name}==1.0 \\", f"    {hashes[0]} \\", f"    {hashes[1]}", "    # via here"]
    (copy / "requirements.txt").write_text("\n".join(lines))
    return copy, wheels


def test_another_python_gets_the_pinned_packages_for_itself(
    tree: Path, copy_with_wheels: tuple[Path, Path]
) -> None:
    copy, wheels = copy_with_wheels
    done = run_installer(str(tree), project=copy, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels))

    assert done.returncode == 0, done.stderr
    vendor = tree / "opt/understudy-agent/vendor"
    for name in ("isal", "blake3"):
        assert (vendor / name / "__init__.py").read_text() == "TAG = 'cp39'\n"
    # Only the machine's own Python could compile for itself.
    assert not list((tree / "opt/understudy-agent/agent").rglob("*.pyc"))


def test_a_package_with_another_hash_is_not_installed(
    tree: Path, copy_with_wheels: tuple[Path, Path]
) -> None:
    copy, wheels = copy_with_wheels
    with zipfile.ZipFile(wheels / "blake3-1.0-cp39-none-any.whl", "a") as wheel:
        wheel.writestr("blake3/more.py", "")
    done = run_installer(str(tree), project=copy, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels))

    assert done.returncode == 1
    assert done.stderr.startswith("AGENT-INSTALL-FAILED: Downloading isal==1.0, blake3==1.0: ")
    assert not (tree / "opt/understudy-agent").exists()


def test_packages_that_cannot_be_had_are_named(tree: Path, tmp_path: Path) -> None:
    (tree / "usr/bin/python3").unlink()
    (tree / "usr/bin/python3").symlink_to("python3.9")
    done = run_installer(str(tree), PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("AGENT-INSTALL-FAILED: Downloading isal==")
    assert not (tree / "opt/understudy-agent").exists()


def test_a_code_that_the_agent_would_not_start_with_is_refused_before_anything_is_copied(
    tmp_path: Path,
) -> None:
    root, code_file = tmp_path / "root", tmp_path / "code"
    root.mkdir()
    code_file.write_text("SHORT-CODE-1")
    done = run_installer(str(root), "--code-file", str(code_file))
    assert done.returncode == 1
    assert "at least 16 letters" in done.stderr
    assert list(root.iterdir()) == []


def test_a_code_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    done = run_installer(str(tmp_path), "--code-file", str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert done.stderr.startswith("AGENT-INSTALL-FAILED")
    assert f"{tmp_path}/nowhere" in done.stderr


def test_installing_again_keeps_the_settings_that_are_not_given(tree: Path) -> None:
    install_into(tree, "INSTALL-CODE-100000", port=8123, provider="fsfreeze")
    path = tree / "etc/understudy-agent/agent.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "left_out_disks": ["sdc"]}))

    install_into(tree)
    assert json.loads(path.read_text()) == {
        "port": 8123,
        "pairing_code": "INSTALL-CODE-100000",
        "provider": "fsfreeze",
        "left_out_disks": ["sdc"],
    }
    install_into(tree, port=8124)
    assert json.loads(path.read_text())["port"] == 8124


def test_settings_that_cannot_be_read_are_not_replaced(tree: Path) -> None:
    install_into(tree)
    path = tree / "etc/understudy-agent/agent.json"
    path.write_text("{cut off")

    with pytest.raises(InstallFailed, match="Reading the settings"):
        install_into(tree)
    assert path.read_text() == "{cut off"


def test_links_never_lead_out_of_the_tree(tree: Path, tmp_path: Path) -> None:
    """Installed as root into a machine's tree, a link to /srv means the machine's own /srv."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (tree / "opt").symlink_to("/srv/programs")
    (tree / "var").mkdir()
    (tree / "var/lib").symlink_to("../../../../../../.." + str(outside))
    (tree / "etc").mkdir(exist_ok=True)
    (tree / "etc/understudy-agent").symlink_to(outside)
    (tree / "usr/local/bin").mkdir(parents=True)
    (tree / "usr/local/bin/understudy-agent").symlink_to(outside / "command")

    install_into(tree, "INSTALL-CODE-100000")

    assert list(outside.iterdir()) == []
    assert (tree / "srv/programs/understudy-agent/agent/__main__.py").is_file()
    assert (tree / str(outside).lstrip("/") / "agent.json").is_file()
    assert not (tree / "usr/local/bin/understudy-agent").is_symlink()


def test_links_in_a_circle_are_refused(tree: Path) -> None:
    (tree / "opt").symlink_to("there")
    (tree / "there").symlink_to("opt")

    with pytest.raises(InstallFailed, match="never end"):
        install_into(tree)
