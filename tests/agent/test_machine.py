"""What the agent says about the machine that it runs on."""

from pathlib import Path

from agent.machine import describe_machine, module_names
from agent.reading import DirectReader, open_source


def test_this_computer_is_described_from_proc_and_sys() -> None:
    description = describe_machine()

    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert description["boot_id"] == boot_id
    assert description["firmware"] in ("bios", "efi")
    assert description["memory_bytes"] % (64 * 1024 * 1024) == 0
    assert description["cpus"] >= 1


def test_drivers_are_the_modules_of_a_listing() -> None:
    listing = """\
usr/lib/modules/6.1.0/kernel/drivers/scsi/vmw_pvscsi.ko
usr/lib/modules/6.1.0/kernel/drivers/md/dm-mod.ko.xz
usr/lib/modules/6.1.0/modules.dep
usr/bin/kmod
"""
    assert module_names(listing) == ["dm_mod", "vmw_pvscsi"]


def test_direct_reading_gives_what_is_there_and_zeros_past_the_end(tmp_path: Path) -> None:
    content = bytes(range(256)) * 64  # 16 KiB
    path = tmp_path / "image"
    path.write_bytes(content + b"tail")
    with path.open("rb") as file:
        reader = DirectReader(file.fileno())

        assert reader.read(0, 8192) == content[:8192]
        assert reader.read(512, 1024) == content[512:1536]
        assert reader.read(16 * 1024 - 512, 4096) == (content[-512:] + b"tail").ljust(4096, b"\0")


def test_a_file_is_read_plainly(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.touch()

    with open_source(path) as (_, read):
        assert read is None
