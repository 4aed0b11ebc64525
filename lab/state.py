"""What a lab remembers between its commands: `lab.json` in its home.

`disaster`, `revive` and `repair` write it, and `run` acts on it. Changes are made under a lock, and
the file is replaced as a whole, so no reader sees a partial one.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

# What should run at the source site: everything; nothing; only its core; its core and blank
# machines, which are restored over the network.
SOURCE_UP = "up"
SOURCE_DEAD = "dead"
SOURCE_CORE_ONLY = "core_only"
SOURCE_REPAIRED = "repaired"


@dataclass
class LabState:
    """`source` is one of SOURCE_*; the rest records one-time acts that are done."""

    source: str = SOURCE_UP
    disaster_at: str | None = None
    repaired_at: str | None = None
    # "kept" or "new": the argument of the last `repair`.
    repaired_core: str | None = None
    image_digest: str | None = None
    protected_machines: list[str] = field(default_factory=list)
    replicated_machines: list[str] = field(default_factory=list)
    has_target_core: bool = False
    has_vcenter: bool = False


def load_state(home: Path) -> LabState:
    """Return the state of the lab, or that of a new lab."""
    try:
        return LabState(**json.loads((home / "lab.json").read_text()))
    except FileNotFoundError:
        return LabState()


@contextmanager
def changed_state(home: Path) -> Iterator[LabState]:
    """Yield the state to change, and write it if the block succeeds."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / ".lab.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = load_state(home)
        yield state
        temporary = home / f".lab.json.{os.getpid()}"
        temporary.write_text(json.dumps(asdict(state), indent=2))
        temporary.rename(home / "lab.json")
