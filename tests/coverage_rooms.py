"""Print what of each room the tests have run: `python -m tests.coverage_rooms --fail-under 90`.

Lines and branches together, as `coverage report` counts them, from what `coverage run` left.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coverage import Coverage

# The longest name that fits a file is its room.
ROOMS = (
    "recovery_store",
    "console/jobs",
    "console",
    "protected_machines",
    "replication",
    "vsphere",
    "agent",
)


@dataclass
class Counted:
    """What of one room can be run, and what was."""

    statements: int = 0
    covered_statements: int = 0
    branches: int = 0
    covered_branches: int = 0

    @property
    def percent(self) -> float:
        """Lines and branches that were run, of all; a room without any is covered."""
        possible = self.statements + self.branches
        covered = self.covered_statements + self.covered_branches
        return 100 * covered / possible if possible else 100.0

    def add(self, summary: Mapping[str, Any]) -> None:
        """Add one file's summary of coverage's JSON report."""
        self.statements += summary["num_statements"]
        self.covered_statements += summary["covered_lines"]
        self.branches += summary["num_branches"]
        self.covered_branches += summary["covered_branches"]


def room_of(path: str) -> str | None:
    """Return the room that a file belongs to, by its path from the root of the checkout."""
    rooms = (room for room in ROOMS if path.startswith(f"{room}/"))
    return max(rooms, key=len, default=None)


def count_rooms(files: Mapping[str, Mapping[str, Any]]) -> dict[str, Counted]:
    """Add up the `files` of coverage's JSON report by room."""
    counted = {room: Counted() for room in ROOMS}
    for path, report in files.items():
        if room := room_of(path):
            counted[room].add(report["summary"])
    return counted


def table(counted: Mapping[str, Counted]) -> str:
    """Return a line for each room."""
    lines = [f"{'room':<20}{'lines':>14}{'branches':>14}{'covered':>10}"]
    for room, found in counted.items():
        of_lines = f"{found.covered_statements}/{found.statements}"
        of_branches = f"{found.covered_branches}/{found.branches}"
        lines.append(f"{room:<20}{of_lines:>14}{of_branches:>14}{found.percent:>8.1f} %")
    return "\n".join(lines)


def too_low(counted: Mapping[str, Counted], limit_percent: float) -> list[str]:
    """Return the rooms of which less was run."""
    return [room for room, found in counted.items() if found.percent < limit_percent]


def read_report() -> dict[str, Any]:
    """Put together what the processes left, and return coverage's JSON report."""
    coverage = Coverage()
    coverage.combine(keep=False)
    coverage.save()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coverage.json"
        coverage.json_report(outfile=str(path))
        return dict(json.loads(path.read_text()))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.coverage_rooms", description=__doc__)
    parser.add_argument("--fail-under", type=float, default=0, metavar="PERCENT")
    limit_percent = parser.parse_args().fail_under
    counted = count_rooms(read_report()["files"])
    print(table(counted))
    low = too_low(counted, limit_percent)
    if low:
        print(f"Below {limit_percent:g} %: {', '.join(low)}", file=sys.stderr)
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
