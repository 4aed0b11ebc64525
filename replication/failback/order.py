"""An order to fail machines back, filled in by a page, a command or a script.

`check.check_failback` says what stands in its way; `start.start_failback` starts it.
"""

from dataclasses import dataclass, field
from uuid import UUID, uuid4

COMMIT_DAYS_LIMIT = 90


@dataclass(frozen=True)
class RescueAddress:
    """Where a rescue machine at the source answers, and the code on its screen."""

    host: str
    port: int
    code: str


@dataclass(frozen=True)
class MachineOrder:
    """One machine of the order and its rescue machine; none until it has been entered."""

    machine_id: UUID
    rescue: RescueAddress | None = None


@dataclass(frozen=True)
class FailbackOrder:
    """Machines to fail back to one source core together.

    commit_days: commit automatically after this many days; None: wait until someone commits. Until
        then their VMs stay here and the failback can be rolled back.
    request_id: repeating an order with the same ID starts nothing.
    """

    pairing_id: UUID
    machines: tuple[MachineOrder, ...]
    commit_days: int | None = None
    reason: str = ""
    request_id: UUID = field(default_factory=uuid4)
