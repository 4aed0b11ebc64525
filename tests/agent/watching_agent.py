"""An agent whose disks are files, and who is told what is written to them after a watched point.

Who writes to `DISK` adds lines `first grain, count` to `DISK.notes`; only those are read for a
final point. `DISK.lost` says that they do not tell all. `DISK.watched` is there while a watch is.
"""

import logging
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from agent.configuration import read_configuration
from agent.protecting import ProtectDuty
from agent.providers import View
from agent.providers.file import FileProvider, FileView
from agent.providers.hold import Hold
from agent.providers.watch import Watch
from agent.service import Service


class Notes:
    """What was written to the files, as they tell."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        for path in paths:
            Path(f"{path}.notes").write_text("")
            Path(f"{path}.watched").touch()

    def find_loss(self) -> str:
        is_lost = any(Path(f"{path}.lost").exists() for path in self.paths)
        return "more was written than its memory can hold" if is_lost else ""

    def changed(self, path: Path) -> list[tuple[int, int]]:
        lines = [line.split() for line in Path(f"{path}.notes").read_text().splitlines()]
        return [(int(first), int(count)) for first, count in lines]

    def release(self) -> None:
        for path in self.paths:
            Path(f"{path}.watched").unlink()


class NotingProvider(FileProvider):
    """Serves files, and can keep watch."""

    can_watch = True

    @contextmanager
    def open_view(
        self, hold: Hold | None = None, watch: Watch | None = None, since: Watch | None = None
    ) -> Iterator[View]:
        notes = since.take() if since is not None else None
        try:
            with super().open_view(hold) as view:
                disks = view.disks
                if isinstance(notes, Notes) and since is not None:
                    since.ended_because = notes.find_loss()
                    if not since.ended_because:
                        disks = [
                            replace(disk, changed=notes.changed(disk.path)) for disk in view.disks
                        ]
                yield FileView(disks)
                if watch is not None:
                    watch.keep(Notes([disk.path for disk in view.disks]))
        finally:
            if notes is not None:
                notes.release()


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    configuration = read_configuration(Path(sys.argv[-1]))
    service = Service(configuration)
    service.duty = ProtectDuty(configuration, service, NotingProvider(configuration.disks))
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=service.stop).start())
    sys.stdout.write(f"listening on port {service.port}\n")
    sys.stdout.flush()
    service.serve()


if __name__ == "__main__":
    main()
