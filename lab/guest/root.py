"""The root tree that all machines of the lab share: Debian's packages and nothing else.

It is made once and kept as a tar file, because it takes a minute and downloads 100 MB.
"""

import hashlib
import os
from pathlib import Path

from lab.commands import run_command

SUITE = "bookworm"
PACKAGE_LIST = Path(__file__).with_name("packages.txt")
KERNEL = "lib/modules/*/kernel"
# What a small virtual machine never reads. Fewer bytes make every base image quicker.
LEFT_OUT = (
    "usr/share/man/*",
    "usr/share/doc/*",
    "usr/share/info/*",
    "usr/share/locale/*",
    "usr/share/zoneinfo/*",
    "lib/udev/hwdb*",
    "usr/lib/udev/hwdb*",
    *(
        f"{KERNEL}/{folder}/*"
        for folder in (
            "drivers/comedi",
            "drivers/infiniband",
            "drivers/net/ethernet/mellanox",
            "drivers/target",
            "fs/btrfs",
            "fs/ceph",
            "fs/nfs",
            "fs/nfsd",
            "fs/smb",
            "fs/xfs",
            "net/bridge",
            "net/ceph",
            "net/sched",
            "net/sctp",
            "net/sunrpc",
            "net/tipc",
        )
    ),
)


def package_names() -> list[str]:
    """Return the packages beside Debian's essential ones."""
    lines = (line.partition("#")[0].strip() for line in PACKAGE_LIST.read_text().splitlines())
    return [line for line in lines if line]


def root_digest() -> str:
    """Return a digest over everything that the root tree is made from."""
    inputs = "\n".join([SUITE, *package_names(), *LEFT_OUT])
    return hashlib.sha256(inputs.encode()).hexdigest()[:16]


def ensure_root_tar(cache: Path) -> Path:
    """Return the tar file of the root tree, making it when it is not in the cache yet."""
    tar = cache / f"root-{root_digest()}.tar"
    if tar.exists():
        return tar
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = cache / f".root-{os.getpid()}.tar"
    try:
        run_command(
            "mmdebstrap",
            "--variant=minbase",
            "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
            "--skip=check/empty",
            f"--include={','.join(package_names())}",
            '--aptopt=APT::Install-Recommends "false"',
            *(f"--dpkgopt=path-exclude=/{pattern}" for pattern in LEFT_OUT),
            SUITE,
            unfinished,
            limit_seconds=900,
        )
        unfinished.rename(tar)
    finally:
        unfinished.unlink(missing_ok=True)
    return tar
