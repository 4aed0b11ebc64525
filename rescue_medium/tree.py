"""Pick the system of the rescue medium from Debian packages: a few programs and drivers.

The packages are unpacked, not installed, so no maintainer script runs. Only what is named here is
taken from them, with the libraries and drivers that it needs.
"""

import hashlib
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from rescue_medium.commands import run_command
from rescue_medium.debian import SUITE, ensure_tar, listed
from rescue_medium.sources import ROOT

HERE = Path(__file__).resolve().parent
PACKAGE_LIST = HERE / "packages.txt"
DRIVER_LIST = HERE / "drivers.txt"
LEFT_OUT = tuple(f"usr/share/{part}/*" for part in ("doc", "locale", "man"))
PROGRAMS = ("usr/bin/busybox", "usr/bin/kmod", "usr/bin/openssl", "usr/bin/python3.11")
COPIED_FILES = ("etc/ssl/openssl.cnf", "usr/local/bin/understudy-agent")
LINKS = {
    "bin": "usr/bin",
    "sbin": "usr/sbin",
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "usr/bin/python3": "python3.11",
    "usr/bin/sh": "busybox",
    "usr/sbin/modprobe": "../bin/kmod",
    "usr/lib/ssl/openssl.cnf": "/etc/ssl/openssl.cnf",
}
FOLDERS = ("dev", "proc", "run", "sys", "tmp", "root", "usr/sbin", "var")
PYTHON = Path("usr/lib/python3.11")
MODULES = Path("usr/lib/modules")
AGENT = Path("opt/understudy-agent")
# The first is signed for Secure Boot and starts the second, which starts the kernel.
EFI_LOADERS = {
    "BOOTX64.EFI": Path("usr/lib/shim/shimx64.efi.signed"),
    "grubx64.efi": Path("usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed"),
}
# Parts of Python's library that a service never imports: half of its size.
NEEDLESS_PYTHON = (
    "__pycache__",
    "config-3.11-x86_64-linux-gnu",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "test",
    "tkinter",
    "turtledemo",
    "unittest",
    "venv",
    "xmlrpc",
)
LIBRARY_LOADER = "/lib64/ld-linux-x86-64.so.2"


@dataclass(frozen=True)
class RescueTree:
    """The system's tree, the kernel that its drivers belong to, and the loaders for UEFI.

    efi_loaders: files by their names in EFI/BOOT.
    """

    folder: Path
    kernel: Path
    efi_loaders: dict[str, Path]


def packages_digest() -> str:
    """Return a digest of the names of the packages."""
    names = "\n".join([SUITE, *listed(PACKAGE_LIST), *LEFT_OUT])
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def ensure_packages_tar(cache: Path) -> Path:
    """Return the packages' files as one tar file; download them if they are missing."""
    tar = cache / f"packages-{packages_digest()}.tar.zst"
    return ensure_tar(tar, "extract", listed(PACKAGE_LIST), LEFT_OUT)


def pick_tree(packages_tar: Path, work: Path) -> RescueTree:
    """Make the medium's root tree below `work`, with the agent in it.

    Raises:
        CommandFailed: a step failed.
        FileNotFoundError: the packages lack something that this module names.
    """
    packages, tree = work / "packages", work / "tree"
    packages.mkdir()
    run_command("tar", "--extract", "--file", packages_tar, "--directory", packages)
    install = (sys.executable, "-m", "agent.install", packages, "--rescue")
    run_command(*install, folder=ROOT, limit_seconds=300)
    for folder in FOLDERS:
        (tree / folder).mkdir(parents=True)
    for name in (*PROGRAMS, *COPIED_FILES):
        _copy(packages / name, tree / name)
    _copy_python(packages, tree)
    shutil.copytree(packages / AGENT, tree / AGENT)
    _copy_drivers(packages, tree)
    _copy_libraries(packages, tree)
    _add_own_files(packages, tree)
    kernel = next((packages / "boot").glob("vmlinuz-*"))
    return RescueTree(tree, kernel, {name: packages / at for name, at in EFI_LOADERS.items()})


def _add_own_files(packages: Path, tree: Path) -> None:
    for name, target in LINKS.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).symlink_to(target)
    for applet in run_command("chroot", packages, "/bin/busybox", "--list").split():
        link = tree / "usr/bin" / applet
        if applet != "modprobe" and not link.exists():
            link.symlink_to("busybox")
    _copy(HERE / "files/init", tree / "init")
    _copy(HERE / "files/udhcpc.script", tree / "etc/udhcpc.script")
    for script in ("init", "etc/udhcpc.script"):
        (tree / script).chmod(0o755)
    (tree / "etc/os-release").write_text('PRETTY_NAME="Understudy rescue medium"\n')
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")


def _copy_python(packages: Path, tree: Path) -> None:
    """Copy Python's library compiled and without sources: it starts seconds faster."""
    compiler = ("-m", "compileall", "-q", "-b", "--invalidation-mode", "unchecked-hash")
    shutil.copytree(
        packages / PYTHON,
        packages / "python" / PYTHON.name,
        # Debian links sitecustomize.py to /etc; following it would copy this computer's.
        symlinks=True,
        ignore=shutil.ignore_patterns(*NEEDLESS_PYTHON),
    )
    shutil.rmtree(packages / PYTHON)
    (packages / "python" / PYTHON.name).rename(packages / PYTHON)
    run_command("chroot", packages, "/usr/bin/python3", *compiler, f"/{PYTHON}", limit_seconds=300)
    shutil.copytree(
        packages / PYTHON, tree / PYTHON, ignore=shutil.ignore_patterns("*.py", "__pycache__")
    )


def _copy_drivers(packages: Path, tree: Path) -> None:
    version = next((packages / MODULES).iterdir()).name
    modules = packages / MODULES / version
    depmod = ("chroot", packages, "/sbin/depmod", version)
    run_command(*depmod, limit_seconds=120)
    wanted = wanted_modules(
        listed(DRIVER_LIST),
        (modules / "modules.dep").read_text(),
        (modules / "modules.builtin").read_text(),
    )
    for path in modules.rglob("*.ko*"):
        if str(path.relative_to(modules)) not in wanted:
            path.unlink()
    run_command(*depmod, limit_seconds=120)
    for path in (*map(modules.joinpath, wanted), *modules.glob("modules.*")):
        _copy(path, tree / path.relative_to(packages))


def wanted_modules(names: list[str], dependencies: str, built_in: str) -> set[str]:
    """Return the files of the named drivers and of those that they need.

    dependencies, built_in: the contents of the kernel's `modules.dep` and `modules.builtin`.
    """
    lines = (line.partition(":") for line in dependencies.splitlines())
    needed = {path: words.split() for path, _, words in lines}
    by_name = {_driver_name(path): path for path in needed}
    builtin_names = {_driver_name(path) for path in built_in.split()}
    wanted: set[str] = set()
    for name in map(_driver_name, names):
        if name in builtin_names:
            continue
        if name not in by_name:
            raise FileNotFoundError(f"The kernel has no driver {name}, which {DRIVER_LIST} names")
        wanted |= {by_name[name], *needed[by_name[name]]}
    return wanted


def _driver_name(path: str) -> str:
    return re.sub(r"\.ko(\..*)?$", "", path.rpartition("/")[2]).replace("-", "_")


def _copy_libraries(packages: Path, tree: Path) -> None:
    """Copy the shared libraries that the tree's programs and libraries need."""
    wanted = {LIBRARY_LOADER}
    for path in sorted(tree.rglob("*")):
        if path.is_file() and not path.is_symlink() and _is_dynamic(path):
            inside = f"/{path.relative_to(tree)}"
            said = run_command("chroot", packages, LIBRARY_LOADER, "--list", inside)
            wanted |= set(re.findall(r"(/\S+) \(0x", said))
    for name in wanted:
        # Under the name that the loader looks for, usually that of a link.
        place = Path("usr") / name.removeprefix("/usr").lstrip("/")
        _copy(packages / place, tree / place)


def _is_dynamic(path: Path) -> bool:
    if ".ko" in path.suffixes:
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
