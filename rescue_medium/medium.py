"""Build the rescue medium: an ISO that boots from CD and, written to a stick, from USB.

A BIOS starts it through ISOLINUX; UEFI through the loaders in a small FAT image, which is the CD's
second boot image and the stick's second partition.

It is cached under a digest of its sources, so building it again is only a copy.
"""

import os
import shutil
import tempfile
from pathlib import Path

from agent.version import VERSION
from rescue_medium.caching import locked
from rescue_medium.commands import run_command
from rescue_medium.debian import listed, missing_packages
from rescue_medium.facts import VOLUME_ID, application_id
from rescue_medium.sources import AGENT_SOURCES, CACHE, PACKAGE_PINS, sources_digest
from rescue_medium.tree import HERE, RescueTree, ensure_packages_tar, packages_digest, pick_tree

ISOLINUX = Path("/usr/lib/ISOLINUX")
LOADER_LIBRARY = Path("/usr/lib/syslinux/modules/bios/ldlinux.c32")
ARGUMENTS = (
    "quiet console=ttyS0 console=tty0 panic=10 mitigations=off nowatchdog random.trust_cpu=on"
)
EFI_IMAGE_BYTES = 8 << 20
SECTOR_BYTES = 512
KEPT_MEDIA = 2
# Debian packages that this computer needs to build it.
NEEDS_LIST = HERE / "needs.txt"


class CannotBuild(Exception):
    """This computer lacks something that the build needs; the text says what to do."""


def medium_digest() -> str:
    """Return a digest of everything that the medium is made from."""
    return sources_digest(packages_digest(), (HERE, *AGENT_SOURCES), (PACKAGE_PINS,))


def build_medium(output: Path) -> None:
    """Write the ISO to `output`, completely or not at all.

    Raises:
        CannotBuild: this computer lacks something.
        CommandFailed: a step failed.
    """
    unfinished = output.with_name(f".{os.getpid()}-{output.name}")
    try:
        shutil.copyfile(ensure_medium(), unfinished)
        unfinished.rename(output)
    finally:
        unfinished.unlink(missing_ok=True)


def _medium_path(cache: Path) -> Path:
    return cache / f"understudy-rescue-{medium_digest()}.iso"


def has_medium(cache: Path = CACHE / "rescue") -> bool:
    """Tell whether the cache holds the ISO as it would be built now."""
    return _medium_path(cache).exists()


def ensure_medium(cache: Path = CACHE / "rescue") -> Path:
    """Return the ISO in the cache; build it if anything that goes into it has changed.

    Raises:
        CannotBuild: this computer lacks something.
        CommandFailed: a step failed.
    """
    path = _medium_path(cache)
    if not path.exists():
        with locked(cache / "lock"):
            if not path.exists():
                _build(cache, path)
    return path


def check_needs() -> None:
    """Check that this computer has what the build needs.

    Raises:
        CannotBuild: a package is missing, or this process is not root.
    """
    missing = missing_packages(listed(NEEDS_LIST))
    if missing:
        raise CannotBuild(
            "Building the rescue medium needs Debian packages that are not installed. "
            f"As root, run: apt-get install --no-install-recommends {' '.join(missing)}"
        )
    if os.geteuid() != 0:
        raise CannotBuild("Only root can build the rescue medium: the build uses chroot.")


def _build(cache: Path, path: Path) -> None:
    check_needs()
    packages_tar = ensure_packages_tar(cache)
    older = sorted(cache.glob("understudy-rescue-*.iso"), key=lambda iso: iso.stat().st_mtime)
    for iso in older[: -(KEPT_MEDIA - 1)]:
        iso.unlink()
    work = Path(tempfile.mkdtemp(prefix=".build-", dir=cache))
    try:
        tree = pick_tree(packages_tar, work)
        make_iso(tree, work, work / "rescue.iso")
        (work / "rescue.iso").rename(path)
    finally:
        shutil.rmtree(work)


def make_iso(tree: RescueTree, work: Path, path: Path) -> None:
    """Pack the tree into an initial RAM disk; write that, the kernel and the loaders to an ISO."""
    iso = work / "iso"
    for folder in ("boot/grub", "isolinux"):
        (iso / folder).mkdir(parents=True)
    shutil.copy(tree.kernel, iso / "boot/vmlinuz")
    _pack(tree.folder, iso / "boot/initrd.img")
    for file in (ISOLINUX / "isolinux.bin", LOADER_LIBRARY):
        shutil.copy(file, iso / "isolinux" / file.name)
    _write_configuration("isolinux.cfg", iso / "isolinux")
    _write_configuration("grub.cfg", iso / "boot/grub")
    _make_efi_image(tree, iso / "boot/grub/grub.cfg", iso / "boot/efi.img")
    run_command(
        *("xorriso", "-as", "mkisofs", "-quiet", "-o", path, "-V", VOLUME_ID, "-J", "-R"),
        *("-A", application_id(VERSION)),
        *("-isohybrid-mbr", ISOLINUX / "isohdpfx.bin"),
        *("-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat"),
        *("-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"),
        *("-eltorito-alt-boot", "-e", "boot/efi.img", "-no-emul-boot", "-isohybrid-gpt-basdat"),
        iso,
        limit_seconds=120,
    )


def _write_configuration(name: str, folder: Path) -> None:
    text = (HERE / "files" / name).read_text()
    (folder / name).write_text(text.format(arguments=ARGUMENTS, volume_id=VOLUME_ID))


def _make_efi_image(tree: RescueTree, configuration: Path, path: Path) -> None:
    """Make the file system for UEFI: EFI/BOOT, and GRUB's configuration for a stick."""
    sectors = str(EFI_IMAGE_BYTES // SECTOR_BYTES)
    run_command("mformat", "-C", "-i", path, "-T", sectors, "-h", "255", "-s", "63", "::")
    run_command("mmd", "-i", path, "::EFI", "::EFI/BOOT", "::boot", "::boot/grub")
    for name, loader in tree.efi_loaders.items():
        run_command("mcopy", "-i", path, loader, f"::EFI/BOOT/{name}")
    run_command("mcopy", "-i", path, configuration, "::boot/grub/grub.cfg")


def _pack(tree: Path, path: Path) -> None:
    names = sorted(str(file.relative_to(tree)) for file in tree.rglob("*"))
    archive = path.with_suffix(".cpio")
    run_command(
        *("cpio", "--create", "--format=newc", "--owner=+0:+0", "--reproducible", "--quiet"),
        *("--file", archive),
        folder=tree,
        input_text="\n".join(names) + "\n",
        limit_seconds=120,
        environment={**os.environ, "LC_ALL": "C"},
    )
    run_command("zstd", "-q", "-15", "--rm", archive, "-o", path, limit_seconds=300)
