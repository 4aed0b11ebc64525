"""A core's store without any recovery point."""

import shutil
from pathlib import Path


def empty_store(home: Path) -> None:
    """Remove all of a core's recovery points; the store stays the one that the core knows."""
    machines = home / "store" / "machines"
    if machines.is_dir():
        shutil.rmtree(machines)
    machines.unlink(missing_ok=True)
