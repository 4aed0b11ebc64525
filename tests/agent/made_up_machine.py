"""A machine whose disks are files, for what looks into /sys and /dev."""

from pathlib import Path


class MadeUpMachine:
    """A /sys with disks on a PCI controller."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "block").mkdir(parents=True)
        self.driver = root / "bus/pci/drivers/vmw_pvscsi"
        self.driver.mkdir(parents=True)

    def add_disk(
        self, name: str, target: int, sectors: int = 8, is_removable: bool = False
    ) -> None:
        controller = self.root / "devices/pci0000:00/0000:00:15.0"
        device = controller / f"host2/target2:0:{target}/2:0:{target}:0"
        device.mkdir(parents=True)
        if not (controller / "driver").exists():
            (controller / "driver").symlink_to(self.driver)
        folder = self.root / "block" / name
        folder.mkdir()
        (folder / "device").symlink_to(device)
        (folder / "size").write_text(f"{sectors}\n")
        (folder / "removable").write_text(f"{int(is_removable)}\n")
        (folder / "dev").write_text("8:0\n")
        (folder / "holders").mkdir()

    def add_layer(self, disk: str, name: str, dm_name: str, sectors: int) -> None:
        folder = self.root / "block" / name
        (folder / "dm").mkdir(parents=True)
        (folder / "dm/name").write_text(f"{dm_name}\n")
        (folder / "size").write_text(f"{sectors}\n")
        (folder / "dev").write_text("254:0\n")
        (self.root / "block" / disk / "holders" / name).mkdir()
