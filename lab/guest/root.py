"""The root tree that all machines of the lab share: only Debian packages.

It is built once and kept as a tar file, because it takes a minute and downloads 100 MB.
"""

import hashlib
from pathlib import Path

from rescue_medium.debian import SUITE, ensure_tar, listed

PACKAGE_LIST = Path(__file__).with_name("packages.txt")
KERNEL = "lib/modules/*/kernel"
# What a small virtual machine never reads. Fewer bytes make every base image faster.
LEFT_OUT = (
    "usr/share/man/*",
    "usr/share/doc/*",
    "usr/share/info/*",
    "usr/share/locale/*",
    "usr/share/zoneinfo/*",
    "lib/udev/hwdb*",
    "usr/lib/udev/hwdb*",
    "usr/lib/x86_64-linux-gnu/gconv/*.so",
    *(
        f"{KERNEL}/{folder}/*"
        for folder in (
            "arch/x86/kvm",
            "drivers/block/drbd",
            "drivers/comedi",
            "drivers/hid",
            "drivers/hv",
            "drivers/infiniband",
            "drivers/md/bcache",
            "drivers/media",
            "drivers/net/ethernet/mellanox",
            "drivers/nvdimm",
            "drivers/soundwire",
            "drivers/target",
            "drivers/vfio",
            "drivers/vhost",
            "drivers/xen",
            "fs/btrfs",
            "fs/cachefiles",
            "fs/ceph",
            "fs/erofs",
            "fs/exfat",
            "fs/lockd",
            "fs/nfs",
            "fs/nfsd",
            "fs/orangefs",
            "fs/smb",
            "fs/udf",
            "fs/xfs",
            "net/bridge",
            "net/ceph",
            "net/dccp",
            "net/l2tp",
            "net/netfilter",
            "net/openvswitch",
            "net/rds",
            "net/sched",
            "net/sctp",
            "net/smc",
            "net/sunrpc",
            "net/tipc",
            "net/tls",
            "net/vmw_vsock",
        )
    ),
)


def root_digest() -> str:
    """Return a digest of everything that the root tree is made from."""
    inputs = "\n".join([SUITE, *listed(PACKAGE_LIST), *LEFT_OUT])
    return hashlib.sha256(inputs.encode()).hexdigest()[:16]


def ensure_root_tar(cache: Path) -> Path:
    """Return the tar file of the root tree; build it if it is not in the cache."""
    return ensure_tar(
        cache / f"root-{root_digest()}.tar", "minbase", listed(PACKAGE_LIST), LEFT_OUT
    )
