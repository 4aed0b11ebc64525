"""Blank machines that run the rescue medium: publish what their consoles show.

The watch writes `rescue.json`, with the addresses and codes for restores, and notices when a
machine runs from its own disks again.
"""

import json
import logging
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from lab.places import write_private
from lab.source_machines import SourceMachine

log = logging.getLogger(__name__)
INTERVAL_SECONDS = 1.0
# address, port and code, as entered at a core.
Entry = dict[str, str | int]
# The medium's line for programs. The newest one counts, since the code changes.
_RESCUE_LINE = re.compile(r"^understudy-rescue address=(\S+) port=\d+ code=(\S+)", re.MULTILINE)


def rescue_file(lab_home: Path) -> Path:
    """Return the path of the file with the addresses and codes of blank machines."""
    return lab_home / "rescue.json"


def read_rescue_file(lab_home: Path) -> dict[str, Entry]:
    """Return the content of `rescue.json`; empty if there is none."""
    try:
        entries: dict[str, Entry] = json.loads(rescue_file(lab_home).read_text())
    except FileNotFoundError:
        return {}
    return entries


def code_on_console(console_text: str) -> str | None:
    """Return the code that a machine shows, once it has an address and a code."""
    shown = _RESCUE_LINE.findall(console_text)
    if not shown or "-" in shown[-1]:
        return None
    return str(shown[-1][1])


class RescueWatch:
    """Polls the machines that are being restored, in its own thread."""

    def __init__(
        self, lab_home: Path, machines: Sequence[SourceMachine], say: Callable[[str], None]
    ) -> None:
        self._lab_home = lab_home
        self._machines = machines
        self._say = say
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rescue", daemon=True)

    def start(self) -> None:
        """Start polling."""
        self._thread.start()

    def stop(self) -> None:
        """Stop polling."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def poll_once(self) -> None:
        """Record what the consoles show, and release machines that run from their own disks."""
        waiting = [machine for machine in self._machines if machine.is_in_rescue]
        entries: dict[str, Entry] = {}
        for machine in waiting:
            if not machine.is_running:
                continue
            if self._runs_its_own_system(machine):
                machine.leave_rescue()
                self._say(f"{machine.name} runs from its own disks")
            elif code := code_on_console(machine.console_text()):
                address = machine.machine.address
                entries[machine.name] = {
                    "address": address,
                    "port": machine.agent_port,
                    "code": code,
                }
        self._write(entries)

    def _write(self, entries: dict[str, Entry]) -> None:
        if entries == read_rescue_file(self._lab_home):
            return
        if not entries:
            rescue_file(self._lab_home).unlink()
            return
        write_private(rescue_file(self._lab_home), json.dumps(entries, indent=2) + "\n")
        for name, entry in entries.items():
            self._say(
                f"{name} waits to be restored at {entry['address']}:{entry['port']}, "
                f"code {entry['code']}"
            )

    @staticmethod
    def _runs_its_own_system(machine: SourceMachine) -> bool:
        """Tell by what its own system says on the console that it inherits from the medium."""
        return machine.up_line in machine.console_text()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.poll_once()
            except OSError as error:
                log.warning("the blank machines could not be read error=%s", error)
            self._stop.wait(INTERVAL_SECONDS)
