"""Could the company recover today? Other rooms answer for each machine; the home page sums up.

A provider returns one `Readiness` for each machine it knows. If two providers know a machine, the
worse state counts and all reasons are kept.
"""

import datetime
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum


class ReadinessState(StrEnum):
    """The states of a machine, worst last."""

    READY = "ready"
    FAILED_OVER = "failed_over"
    AT_RISK = "at_risk"
    NOT_READY = "not_ready"

    @property
    def tone(self) -> str:
        """The tone of its badge."""
        return _TONES_AND_LABELS[self][0]

    @property
    def label(self) -> str:
        return _TONES_AND_LABELS[self][1]


_TONES_AND_LABELS = {
    ReadinessState.READY: ("ok", "Ready"),
    ReadinessState.FAILED_OVER: ("ok", "Failed over"),
    ReadinessState.AT_RISK: ("warn", "At risk"),
    ReadinessState.NOT_READY: ("bad", "Not recoverable"),
}
_ORDER = list(ReadinessState)


@dataclass(frozen=True)
class Readiness:
    """How well one machine could be recovered, and the facts behind that.

    `url` is the machine's page, `evidence_url` that of the point or job that proves it. Reasons say
    what is wrong, worst first; a ready machine has none. `core_name` is the core that it runs at.
    """

    machine_id: uuid.UUID
    machine_name: str
    url: str
    state: ReadinessState
    headline: str
    reasons: tuple[str, ...] = ()
    newest_point_at: datetime.datetime | None = None
    proven_at: datetime.datetime | None = None
    evidence_url: str = ""
    core_name: str = ""


@dataclass(frozen=True)
class Summary:
    """All machines of this core, worst first, and totals over them."""

    machines: tuple[Readiness, ...]

    def count(self, state: ReadinessState) -> int:
        return sum(machine.state == state for machine in self.machines)

    @property
    def total(self) -> int:
        return len(self.machines)

    @property
    def oldest_proof_at(self) -> datetime.datetime | None:
        """The oldest of the machines' last proofs; None if a machine was never proven."""
        proofs = [machine.proven_at for machine in self.machines if machine.proven_at]
        return min(proofs, default=None) if len(proofs) == self.total else None

    @property
    def never_proven(self) -> int:
        return sum(machine.proven_at is None for machine in self.machines)

    @property
    def ready(self) -> int:
        return self.count(ReadinessState.READY)

    @property
    def failed_over(self) -> int:
        return self.count(ReadinessState.FAILED_OVER)

    @property
    def at_risk(self) -> int:
        return self.count(ReadinessState.AT_RISK)

    @property
    def not_ready(self) -> int:
        return self.count(ReadinessState.NOT_READY)


@dataclass(frozen=True)
class Verdict:
    """The answer for a manager in one line, and the sentence that explains it."""

    tone: str
    title: str
    text: str


def decide(summary: Summary) -> Verdict:
    """Return the answer to the question at the top of the home page."""
    total = summary.total
    if not total:
        return Verdict(
            "off",
            "Nothing is protected here yet",
            "This core protects no machines, and no other core replicates machines to "
            "it. There is nothing to recover.",
        )
    if summary.not_ready == total:
        return Verdict("bad", "No", "None of the machines on this core could be recovered today.")
    if summary.not_ready:
        return Verdict(
            "bad",
            f"Not everything: {_machines(summary.not_ready)} could not be recovered",
            f"{_machines(total - summary.not_ready)} of {total} could be. The table shows "
            "why the others could not, worst first.",
        )
    if summary.at_risk:
        all_have = "The machine has" if total == 1 else f"All {total} machines have"
        return Verdict(
            "warn",
            f"Yes, but {_machines(summary.at_risk)} at risk",
            f"{all_have} a recovery point to start from. "
            "The table shows what is at risk and why, worst first.",
        )
    return Verdict(
        "ok",
        f"Yes: {'the machine' if total == 1 else f'all {total} machines'} could be recovered",
        "Each has a recent recovery point that has been proven intact.",
    )


def _machines(count: int) -> str:
    return f"{count} machine" if count == 1 else f"{count} machines"


Provider = Callable[[datetime.datetime], Iterable[Readiness]]
_providers: list[Provider] = []


def register_provider(provider: Provider) -> Provider:
    """Add a provider for the home page. Called from an app's `ready()`."""
    if provider not in _providers:
        _providers.append(provider)
    return provider


def collect(now: datetime.datetime) -> Summary:
    """Ask every provider and sum up the answers."""
    return summarise(entry for provider in _providers for entry in provider(now))


def summarise(entries: Iterable[Readiness]) -> Summary:
    """Merge entries about the same machine, and put the worst first."""
    merged: dict[uuid.UUID, Readiness] = {}
    for entry in entries:
        known = merged.get(entry.machine_id)
        merged[entry.machine_id] = _merge(known, entry) if known else entry
    return Summary(tuple(sorted(merged.values(), key=_worst_first)))


def _worst_first(entry: Readiness) -> tuple[int, str]:
    return -_ORDER.index(entry.state), entry.machine_name.casefold()


def _merge(first: Readiness, second: Readiness) -> Readiness:
    worse, other = sorted((first, second), key=_worst_first)
    return replace(
        worse,
        reasons=tuple(dict.fromkeys(worse.reasons + other.reasons)),
        newest_point_at=_latest(worse.newest_point_at, other.newest_point_at),
        proven_at=_latest(worse.proven_at, other.proven_at),
        evidence_url=worse.evidence_url or other.evidence_url,
        core_name=worse.core_name or other.core_name,
    )


def _latest(
    one: datetime.datetime | None, other: datetime.datetime | None
) -> datetime.datetime | None:
    return max((moment for moment in (one, other) if moment), default=None)
