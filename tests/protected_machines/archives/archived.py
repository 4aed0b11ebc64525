"""What the tests of archives share: points to archive, and judges of what came back."""

import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from protected_machines.models import Machine, RecoveryPoint
from protected_machines.points.index import index_point
from protected_machines.points.store import open_store
from recovery_store.importing import import_images
from recovery_store.store import Store
from tests.factories import make_machine
from tests.places.agent import MIB, overwrite, write_disk
from tests.recovery_store.disks import judges_say_same


@dataclass
class Archived:
    """A machine with points of two disks, taken without an agent, oldest first."""

    machine: Machine
    images: list[Path]
    points: list[RecoveryPoint] = field(default_factory=list)

    def take_point(self) -> RecoveryPoint:
        """Change the first disk and take a further point."""
        overwrite(self.images[0], 200_000, uuid.uuid4().bytes)
        parent_id = str(self.points[-1].pk)
        manifest = import_images(open_store(), self.machine.name, self.images, parent_id)
        self.points.append(index_point(self.machine, manifest))
        return self.points[-1]

    def assert_same_disks(self, store: Store, folder: Path) -> None:
        """Have others compare the newest point's disks there with the machine's own."""
        for number, image in enumerate(self.images):
            vmdk = folder / f"{uuid.uuid4()}.vmdk"
            store.export(str(self.machine.pk), str(self.points[-1].pk), number, vmdk)
            assert judges_say_same(vmdk, image)


def make_archived(folder: Path, name: str = "db-01") -> Archived:
    """A base image and an incremental on it, of a machine that is protected here."""
    sizes = {f"{name}-boot.raw": 4 * MIB, f"{name}-data.raw": 2 * MIB}
    images = [write_disk(folder / file, capacity, MIB) for file, capacity in sizes.items()]
    manifest = import_images(open_store(), name, images)
    machine = make_machine(id=uuid.UUID(manifest.machine_id), name=name)
    archived = Archived(machine, images, [index_point(machine, manifest)])
    archived.take_point()
    return archived


def forget(machine_id: uuid.UUID) -> None:
    """Leave this core as one that never knew the machine."""
    Machine.objects.filter(pk=machine_id).delete()
    shutil.rmtree(open_store().root / "machines")


def files_below(folder: Path) -> set[str]:
    """Return the files of points there by relative path, without locks and empty folders."""
    files = (path for path in folder.rglob("machines/**/*") if path.suffix in (".vmdk", ".json"))
    return {str(path.relative_to(folder)) for path in files}


def damage(store_folder: Path, point: RecoveryPoint) -> Path:
    """Flip bytes in the middle of a point's first disk file; return the file."""
    folder = Store(store_folder).get_folder(str(point.machine_id), str(point.pk))
    disk = folder / "disk0.vmdk"
    disk.chmod(0o600)
    overwrite(disk, disk.stat().st_size // 2, b"flipped")
    return disk
