"""Install the agent into a machine's root tree: files, service, configuration, initramfs layer.

The tree is `/` on a running machine, or the unpacked tree of a disk image. Nothing in the tree is
executed, so it may belong to another machine. Afterwards, rebuild the machine's initramfs
(`update-initramfs -u -k all`) and restart the machine once. Until then, the agent uses the provider
`fsfreeze`.
"""

from __future__ import annotations

import compileall
import importlib.util
import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from agent.errors import AgentError
from agent.pairing import check_code
from agent.protocol import DEFAULT_PORT

_PROJECT = Path(__file__).resolve().parent.parent.parent
_ROOT_FILES = Path(__file__).resolve().parent / "root"
_AGENT_FOLDER = Path("opt/understudy-agent")
_CONFIGURATION = Path("etc/understudy-agent/agent.json")
_STATE_FOLDER = Path("var/lib/understudy-agent")
_UNIT = "understudy-agent.service"
_WHEELS = ("isal", "blake3")
_WHEEL_SOURCE = _PROJECT / "requirements.txt"
_DOWNLOAD_SECONDS = 300
_DEFAULTS = {"port": DEFAULT_PORT, "pairing_code": None, "provider": "auto"}
_MAX_LINKS = 40  # as many as Linux follows
_COMMAND = Path("usr/local/bin/understudy-agent")
_EXECUTABLE = (
    "etc/initramfs-tools/hooks/understudy",
    "etc/initramfs-tools/scripts/local-top/understudy",
    str(_COMMAND),
)


class InstallFailed(AgentError):
    """The agent cannot run in this tree, or a part of it is missing on this computer."""

    code = "AGENT-INSTALL-FAILED"


def install_into(
    root_tree: Path,
    pairing_code: str | None = None,
    port: int | None = None,
    provider: str | None = None,
) -> None:
    """Install the agent into a tree. It replaces an older agent; its state and settings stay.

    Links in the tree are followed as the machine itself would, and never lead out of it.

    pairing_code: the one-time code. Without one, the agent makes a code at its first start, and
        `understudy-agent show-code` prints it on the machine.
    port, provider: None: as they are set already, or the defaults.

    Raises:
        InstallFailed: the tree lacks Python 3.9 or newer, a part of the agent is missing here, or
            the settings of an older agent cannot be read.
        ConfigurationWrong: the code is too short.
    """
    if pairing_code is not None:
        check_code(pairing_code)
    _install_program(root_tree)
    for source in sorted(_ROOT_FILES.rglob("*")):
        if source.is_file():
            _copy_root_file(root_tree, source.relative_to(_ROOT_FILES))
    _write_configuration(root_tree, pairing_code, port, provider)
    _enable(root_tree)


def install_rescue(root_tree: Path) -> None:
    """Install only the program, for a rescue medium, which runs `understudy-agent restore`.

    Raises:
        InstallFailed: the tree lacks Python 3.9 or newer, or a part of the agent is missing here.
    """
    _install_program(root_tree)
    _copy_root_file(root_tree, _COMMAND)


def _install_program(root_tree: Path) -> None:
    version = _python_version(root_tree)
    folder = _inside(root_tree, _AGENT_FOLDER)
    new_folder = folder.with_name(folder.name + ".new")
    shutil.rmtree(new_folder, ignore_errors=True)
    new_folder.mkdir(parents=True)
    _copy_packages(new_folder)
    _copy_wheels(new_folder, version)
    _compile(new_folder, version)
    shutil.rmtree(folder, ignore_errors=True)
    new_folder.rename(folder)


def _python_version(root_tree: Path) -> tuple[int, int]:
    try:
        name = (_inside(root_tree, Path("usr/bin")) / "python3").readlink().name
    except OSError as error:
        raise InstallFailed(
            f"Installing into {root_tree}: usr/bin/python3 is missing. "
            "Install the package python3 there first."
        ) from error
    match = re.fullmatch(r"python3\.(\d+)", name)
    if match is None or int(match[1]) < 9:
        raise InstallFailed(
            f"Installing into {root_tree}: its Python is {name}, but 3.9 or newer is needed"
        )
    return 3, int(match[1])


def _copy_packages(folder: Path) -> None:
    without_caches = shutil.ignore_patterns("__pycache__")
    without_client = shutil.ignore_patterns("__pycache__", "client")
    shutil.copytree(_PROJECT / "agent", folder / "agent", ignore=without_client)
    store = folder / "recovery_store"
    store.mkdir()
    for name in ("__init__.py", "errors.py"):
        shutil.copy(_PROJECT / "recovery_store" / name, store / name)
    shutil.copytree(_PROJECT / "recovery_store/vmdk", store / "vmdk", ignore=without_caches)


def _copy_wheels(folder: Path, version: tuple[int, int]) -> None:
    """Copy isal and blake3 from here, or download them if the machine's Python differs."""
    vendor = folder / "vendor"
    vendor.mkdir()
    if version == sys.version_info[:2]:
        for name in _WHEELS:
            found = importlib.util.find_spec(name)
            if found is None or found.origin is None:
                raise InstallFailed(f"The Python package {name} is not installed on this computer")
            without_caches = shutil.ignore_patterns("__pycache__")
            shutil.copytree(Path(found.origin).parent, vendor / name, ignore=without_caches)
    else:
        _download_wheels(vendor, version)


def _download_wheels(vendor: Path, version: tuple[int, int]) -> None:
    pins = [_pin(name) for name in _WHEELS]
    what = f"Downloading {', '.join(pin.split()[0] for pin in pins)}"
    with tempfile.TemporaryDirectory() as folder:
        pins_file = Path(folder, "pins.txt")
        pins_file.write_text("\n".join(pins))
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--target", str(vendor), "--cache-dir", folder]
        command += ["--python-version", ".".join(map(str, version))]
        command += ["--require-hashes", "-r", str(pins_file)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise InstallFailed(f"{what}: {error}") from error
    if done.returncode:
        raise InstallFailed(f"{what}: {done.stderr.strip()[-500:]}")


def _pin(name: str) -> str:
    """Return what requirements.txt says of a package: its version, and the hashes of its files."""
    found = re.search(rf"^{name}==(?:.*\\\n)*.*$", _WHEEL_SOURCE.read_text(), re.MULTILINE)
    if found is None:
        raise InstallFailed(f"{_WHEEL_SOURCE} does not pin {name}")
    return found[0]


def _compile(folder: Path, version: tuple[int, int]) -> None:
    """Compile for a machine with the same Python, which saves seconds at each start."""
    if version == sys.version_info[:2]:
        compileall.compile_dir(
            folder,
            quiet=2,
            stripdir=folder,
            prependdir=f"/{_AGENT_FOLDER}",
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def _copy_root_file(root_tree: Path, name: Path) -> None:
    folder = _inside(root_tree, name.parent)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name.name
    path.unlink(missing_ok=True)  # it may be a link
    shutil.copyfile(_ROOT_FILES / name, path)
    path.chmod(0o755 if str(name) in _EXECUTABLE else 0o644)


def _write_configuration(
    root_tree: Path, pairing_code: str | None, port: int | None, provider: str | None
) -> None:
    folder = _inside(root_tree, _CONFIGURATION.parent)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / _CONFIGURATION.name
    given = {"port": port, "pairing_code": pairing_code, "provider": provider}
    entries = {
        **_DEFAULTS,
        **_read_configuration(path),
        **{name: value for name, value in given.items() if value is not None},
    }
    new_path = path.with_name(path.name + ".new")
    new_path.unlink(missing_ok=True)
    descriptor = os.open(new_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(entries, file, indent=1)
    new_path.replace(path)
    _inside(root_tree, _STATE_FOLDER).mkdir(mode=0o700, parents=True, exist_ok=True)


def _read_configuration(path: Path) -> dict[str, object]:
    """Return the settings of the agent that is installed already; none if there is none."""
    if path.is_symlink() or not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InstallFailed(f"Reading the settings in {path}: {error}") from error
    if not isinstance(found, dict):
        raise InstallFailed(f"Reading the settings in {path}: expected a JSON object")
    return found


def _inside(root_tree: Path, name: Path) -> Path:
    """Return where a folder of the machine is in its tree, whatever links lead to it."""
    place, parts, links = root_tree, list(reversed(name.parts)), 0
    while parts:
        part = parts.pop()
        if part == "..":
            place = place.parent if place != root_tree else root_tree
        elif (place / part).is_symlink():
            links += 1
            if links > _MAX_LINKS:
                raise InstallFailed(f"Installing into {root_tree}: the links of {name} never end")
            target = (place / part).readlink()
            if target.is_absolute():
                place = root_tree
            parts += [step for step in reversed(target.parts) if step != target.anchor]
        else:
            place /= part
    return place


def _enable(root_tree: Path) -> None:
    wants = _inside(root_tree, Path("etc/systemd/system/multi-user.target.wants"))
    wants.mkdir(parents=True, exist_ok=True)
    link = wants / _UNIT
    link.unlink(missing_ok=True)
    link.symlink_to(f"/etc/systemd/system/{_UNIT}")
