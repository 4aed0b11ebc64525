"""An order to fail machines back: what a page, a command or a script fills in.

`check.check_failback` says what stands in its way, `start.start_failback` carries it out.
"""

from dataclasses import dataclass, field
from uuid import UUID, uuid4

COMMIT_DAYS = 7
COMMIT_DAYS_LIMIT = 90


@dataclass(frozen=True)
class RescueAddress:
    """Where a machine at the source runs the rescue medium, and the code on its screen."""

    host: str
    port: int
    code: str


@dataclass(frozen=True)
class MachineOrder:
    """One machine of the order, and the rescue machine it goes onto; none: not named yet."""

    machine_id: UUID
    rescue: RescueAddress | None = None


@dataclass(frozen=True)
class FailbackOrder:
    """Machines to be failed back to one source core together.

    commit_days: so long their VMs stay here, and the failback can be rolled back.
    request_id: an order that is given again with the same id starts nothing.
    """

    pairing_id: UUID
    machines: tuple[MachineOrder, ...]
    commit_days: int = COMMIT_DAYS
    reason: str = ""
    request_id: UUID = field(default_factory=uuid4)
