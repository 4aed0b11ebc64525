"""The rescue medium carries the drivers that are named, and those that they need."""

import pytest

from rescue_medium.debian import listed
from rescue_medium.tree import DRIVER_LIST, wanted_modules

DEPENDENCIES = """\
kernel/drivers/scsi/vmw_pvscsi.ko: kernel/drivers/scsi/scsi_mod.ko kernel/lib/common.ko
kernel/drivers/scsi/scsi_mod.ko: kernel/lib/common.ko
kernel/lib/common.ko:
kernel/drivers/usb/storage/usb-storage.ko.xz:
"""
BUILT_IN = "kernel/drivers/nvme/host/nvme.ko\n"


def test_drivers_come_with_what_they_need() -> None:
    assert wanted_modules(["vmw_pvscsi"], DEPENDENCIES, BUILT_IN) == {
        "kernel/drivers/scsi/vmw_pvscsi.ko",
        "kernel/drivers/scsi/scsi_mod.ko",
        "kernel/lib/common.ko",
    }


def test_dashes_and_compression_make_no_difference() -> None:
    wanted = wanted_modules(["usb_storage"], DEPENDENCIES, BUILT_IN)
    assert wanted == {"kernel/drivers/usb/storage/usb-storage.ko.xz"}


def test_a_driver_in_the_kernel_itself_needs_no_file() -> None:
    assert wanted_modules(["nvme"], DEPENDENCIES, BUILT_IN) == set()


def test_a_driver_that_is_nowhere_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="no driver floppy_tape"):
        wanted_modules(["floppy_tape"], DEPENDENCIES, BUILT_IN)


def test_the_machines_that_are_protected_can_be_restored() -> None:
    drivers = listed(DRIVER_LIST)
    wanted = {"ahci", "ata_piix", "e1000", "nvme", "virtio_blk", "virtio_net", "virtio_scsi"}
    assert {*wanted, "vmw_pvscsi", "vmxnet3"} <= set(drivers)
    assert len(set(drivers)) == len(drivers)
