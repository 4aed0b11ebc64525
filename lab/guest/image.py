"""Build the disks of the lab's machines once, and cache them under a digest of their sources."""

import json
import secrets
import shutil
import sys
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from lab.guest import disk
from lab.guest.machines import MACHINES, LabMachine
from lab.guest.root import ensure_root_tar, root_digest
from lab.places import CACHE, ROOT
from rescue_medium.caching import locked
from rescue_medium.commands import run_command
from rescue_medium.sources import AGENT_SOURCES, PACKAGE_PINS, sources_digest

HERE = Path(__file__).resolve().parent
COMMON_UNITS = ("lab-clock.service", "systemd-networkd.service")
NEEDLESS_UNITS = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "kmod-static-nodes.service",
    "modprobe@configfs.service",
    "modprobe@drm.service",
    "modprobe@efi_pstore.service",
    "modprobe@fuse.service",
    "serial-getty@ttyS0.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-journal-flush.service",
    "systemd-networkd-wait-online.service",
    "systemd-pcrphase-initrd.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-sysusers.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
)
# An emulated processor breaks the kernel once in hundreds of starts; the machine then starts again.
KERNEL_ARGUMENTS = (
    "root=UUID={root_uuid} rw quiet console=tty0 console=ttyS0 rootfstype=ext4 panic=5 oops=panic "
    "mitigations=off nowatchdog random.trust_cpu=on systemd.show_status=false"
)


@dataclass(frozen=True)
class MachineImage:
    """The disks of one machine as built. Read-only: a lab copies them."""

    name: str
    pairing_code: str
    disks: tuple[Path, ...]
    # Its memory when it was suspended; none for a machine that boots.
    memory: Path | None = None


def image_digest() -> str:
    """Return a digest of everything that the machines' disks are made from."""
    return sources_digest(root_digest(), (HERE, *AGENT_SOURCES), (PACKAGE_PINS,))


def has_images(cache: Path = CACHE / "guest") -> bool:
    """Tell whether the cache holds the machines' images as they would be built now."""
    return (cache / f"image-{image_digest()}").exists()


def ensure_images(cache: Path = CACHE / "guest") -> dict[str, MachineImage]:
    """Return the machines' images by name; build them if their sources have changed."""
    folder = cache / f"image-{image_digest()}"
    if not folder.exists():
        with locked(cache / "lock"):
            if not folder.exists():
                _build(cache, folder)
    return {machine.name: load_image(folder, machine.name) for machine in MACHINES}


def load_image(folder: Path, name: str) -> MachineImage:
    """Return one machine's image from the folder of a build."""
    facts = json.loads((folder / name / "machine.json").read_text())
    disks = tuple(folder / name / file for file in facts["disks"])
    return MachineImage(name, facts["pairing_code"], disks)


def _build(cache: Path, folder: Path) -> None:
    root_tar = ensure_root_tar(cache)
    for older in sorted(cache.glob("image-*"), key=lambda path: path.stat().st_mtime)[:-2]:
        shutil.rmtree(older)
    work = Path(tempfile.mkdtemp(prefix=".build-", dir=cache))
    try:
        tree = work / "root"
        tree.mkdir()
        run_command("tar", "--extract", "--file", root_tar, "--directory", tree)
        _furnish(tree)
        for machine in MACHINES:
            _build_machine(machine, tree, work / "image" / machine.name)
        (work / "image").rename(folder)
    finally:
        shutil.rmtree(work)


def _furnish(tree: Path) -> None:
    """Add what all machines share: the lab's files, the agent, and their initial RAM disk."""
    shutil.copytree(HERE / "files", tree, dirs_exist_ok=True)
    (tree / "opt/lab").mkdir(parents=True)
    for script in ("clock.py", "journal.py", "tools.py"):
        shutil.copy(HERE / script, tree / "opt/lab" / script)
    (tree / "srv/data").mkdir(parents=True, exist_ok=True)
    _enable(tree, COMMON_UNITS)
    for unit in NEEDLESS_UNITS:
        mask = tree / "etc/systemd/system" / unit
        mask.unlink(missing_ok=True)
        mask.symlink_to("/dev/null")
    # Without a pairing code; each machine gets its own.
    run_command(sys.executable, "-m", "agent.install", tree, folder=ROOT, limit_seconds=300)
    run_command("chroot", tree, "update-initramfs", "-u", "-k", "all", limit_seconds=300)


def _enable(tree: Path, units: tuple[str, ...]) -> None:
    wants = tree / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    for unit in units:
        if (tree / "etc/systemd/system" / unit).exists():
            target = f"/etc/systemd/system/{unit}"
        else:
            target = f"/lib/systemd/system/{unit}"
        link = wants / unit
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def _disable(tree: Path, units: tuple[str, ...]) -> None:
    for unit in units:
        (tree / "etc/systemd/system/multi-user.target.wants" / unit).unlink()


def _build_machine(machine: LabMachine, tree: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    pairing_code = _new_pairing_code()
    root_uuid, data_uuid = uuid.uuid4(), uuid.uuid4()
    _make_it_the_machine(machine, tree, pairing_code, root_uuid, data_uuid)
    _enable(tree, machine.units)
    boot = disk.BootFiles(
        kernel=next((tree / "boot").glob("vmlinuz-*")),
        initial_ram_disk=next((tree / "boot").glob("initrd.img-*")),
        arguments=KERNEL_ARGUMENTS.format(root_uuid=root_uuid),
    )
    disk.make_boot_disk(folder / "disk0.raw", machine.root_disk_bytes, tree, root_uuid, boot)
    disks = ["disk0.raw"]
    if machine.data_disk_bytes is not None:
        disk.make_data_disk(folder / "disk1.raw", machine.data_disk_bytes, data_uuid)
        disks.append("disk1.raw")
    _disable(tree, machine.units)
    facts = {"name": machine.name, "pairing_code": pairing_code, "disks": disks}
    facts_path = folder / "machine.json"
    facts_path.touch(mode=0o600)
    facts_path.write_text(json.dumps(facts, indent=2))


def _make_it_the_machine(
    machine: LabMachine, tree: Path, pairing_code: str, root_uuid: uuid.UUID, data_uuid: uuid.UUID
) -> None:
    etc = tree / "etc"
    (etc / "hostname").write_text(f"{machine.name}\n")
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {machine.name}\n")
    (etc / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
    mounts = [f"UUID={root_uuid} / ext4 defaults,noatime,errors=remount-ro 0 1"]
    if machine.data_disk_bytes is not None:
        mounts.append(f"UUID={data_uuid} /srv/data ext4 defaults,noatime 0 2")
    mounts.append("tmpfs /tmp tmpfs nosuid,nodev,size=64m 0 0")
    (etc / "fstab").write_text("\n".join(mounts) + "\n")
    path = etc / "understudy-agent/agent.json"
    configuration = json.loads(path.read_text())
    path.write_text(json.dumps({**configuration, "pairing_code": pairing_code}))


def _new_pairing_code() -> str:
    return "-".join(secrets.token_hex(2) for _ in range(4))
