"""Export of a point with ten incrementals to a file, compared with qemu-img and `cp`."""

import sys
from pathlib import Path

from benchmarks.disk_image import change_image, copy_image, ensure_disk_image
from benchmarks.figures import Figure, at_most, run_command

INCREMENTALS = 10
_CHANGED_FRACTION = 0.01
_TURNS = 3
_STORE = [sys.executable, "-m", "recovery_store"]


def build_chain(work: Path, incrementals: int = INCREMENTALS) -> tuple[Path, str, Path]:
    """Make a store with a base image and incrementals; return it, the newest point, its image."""
    image = copy_image(ensure_disk_image(work.parent), work / "disk.raw")
    store = work / "store"
    command = [*_STORE, "import", store, "--machine", "bench"]
    point_id = run_command([*command, image]).output.split()[-1]
    for number in range(incrementals):
        change_image(image, _CHANGED_FRACTION, seed=number)
        point_id = run_command([*command, "--parent", point_id, image]).output.split()[-1]
    return store, point_id, image


def newest_vmdk(store: Path, point_id: str) -> Path:
    return next(store.glob(f"machines/*/points/*-{point_id}/disk0.vmdk"))


def run(work: Path) -> list[Figure]:
    """Measure `export`, `cp` of its result, and `qemu-img convert` of the same chain.

    `cp` ends once the bytes are in memory, and so does the export. A copy that survives a power cut
    also waits for the disk, so both are measured that way too.
    """
    store, point_id, image = build_chain(work)
    exported, copied = work / "exported.vmdk", work / "copy.vmdk"
    # Alternating, and the best counts, so that other load on this computer affects both.
    exports, copies, synced_exports, synced_copies = [], [], [], []
    for _ in range(_TURNS):
        # Both find equally much memory just freed: fresh pages cost seconds.
        exported.unlink(missing_ok=True)
        exports.append(run_command([*_STORE, "export", store, point_id, 0, exported]))
        synced_exports.append(exports[-1].seconds + run_command(["sync", exported]).seconds)
        copied.unlink(missing_ok=True)
        copies.append(run_command(["cp", exported, copied]))
        synced_copies.append(copies[-1].seconds + run_command(["sync", copied]).seconds)
    copied.unlink()
    ours = min(exports, key=lambda each: each.seconds)
    copy = min(copies, key=lambda each: each.seconds)
    run_command(["qemu-img", "compare", "-f", "vmdk", "-F", "raw", exported, image])
    exported.unlink()
    convert = ["qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized"]
    qemu = run_command([*convert, newest_vmdk(store, point_id), work / "qemu.vmdk"])
    speed = qemu.seconds / ours.seconds
    return [
        Figure(
            "Export of base + 10 incrementals to a file",
            ours.seconds,
            "qemu-img convert",
            qemu.seconds,
            "s",
            speed,
            "≥ 40 × as fast",
            speed >= 40,
        ),
        at_most(
            "The same, compared with cp", ours.seconds, "cp of the result", copy.seconds, "s", 2
        ),
        at_most(
            "The same, on the disk",
            min(synced_exports),
            "cp and sync of the result",
            min(synced_copies),
            "s",
            2,
        ),
        at_most("Memory of the export", ours.peak_bytes / 1e6, "limit", 250, "MB", 1),
    ]
