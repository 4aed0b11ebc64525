"""Decisions of a failback: plain facts in, plain findings out. No rows, no calls."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from console.findings import Finding, errors_first
from protected_machines.choices import MachineKind
from protected_machines.ownership import settle_first
from replication.failback.order import COMMIT_DAYS_LIMIT
from replication.models import ReplicatedMachine


@dataclass(frozen=True)
class FailbackFacts:
    """What a failback must know about one machine, as far as it could be found out."""

    name: str
    kind: str
    kind_title: str
    is_owned_here: bool
    owner_core_name: str
    source_name: str
    is_agent_online: bool
    agent_trouble: str = ""
    # Why its owner has to be settled first; empty if it is clear who owns it.
    owner_trouble_text: str = ""
    open_job_text: str = ""
    # Why the source core could not be asked; empty if it could.
    source_trouble_text: str = ""
    has_points: bool = True
    has_common_point: bool = True
    send_text: str = ""
    # Why the rescue machine cannot be used; empty if it can, or has not been entered yet.
    rescue_trouble_code: str = ""
    rescue_trouble_text: str = ""
    is_rescue_named: bool = False
    rescue_findings: Sequence[Finding] = field(default_factory=tuple)


def check_machine(facts: FailbackFacts) -> list[Finding]:
    """Return what was found about the failback of one machine, errors first. Pure."""
    findings = [*_machine_findings(facts), *_source_findings(facts)]
    if not facts.source_trouble_text:
        findings += _rescue_findings(facts)
    return errors_first(findings)


def _machine_findings(facts: FailbackFacts) -> Iterable[Finding]:
    if facts.owner_trouble_text:
        yield Finding.error("FAILBACK-OWNER-UNSETTLED", facts.owner_trouble_text)
    elif facts.kind != "failed_over" or not facts.is_owned_here:
        yield Finding.error(
            "FAILBACK-NOT-FAILED-OVER",
            f"{facts.name} is owned by {facts.owner_core_name} and is "
            f"{facts.kind_title.lower()} here. Only a machine that failed over to this "
            "core can fail back.",
        )
    if facts.open_job_text:
        yield Finding.error("FAILBACK-JOB-OPEN", facts.open_job_text)
    if not facts.has_points:
        yield Finding.error(
            "FAILBACK-NO-POINT",
            f"{facts.name} has no recovery points here. Force a snapshot first.",
        )
    if not facts.is_agent_online:
        yield Finding.error(
            "FAILBACK-AGENT-AWAY",
            f"The agent of {facts.name} is not responding: "
            f"{facts.agent_trouble or 'not seen yet'} A failback needs the agent to "
            "freeze the machine and take its final point.",
        )


def _source_findings(facts: FailbackFacts) -> Iterable[Finding]:
    if facts.source_trouble_text:
        yield Finding.error("FAILBACK-SOURCE-AWAY", facts.source_trouble_text)
    elif facts.has_points and not facts.has_common_point:
        yield Finding.warning(
            "FAILBACK-NO-COMMON-POINT",
            f"{facts.source_name} has no recovery point that the newest one builds on, so "
            f"a base image will be sent: {facts.send_text}.",
        )


def _rescue_findings(facts: FailbackFacts) -> Iterable[Finding]:
    if not facts.is_rescue_named:
        yield Finding.error(
            "FAILBACK-NO-TARGET",
            f"At {facts.source_name}, start a machine from the rescue medium. Then enter "
            "the address and code that it shows.",
        )
    elif facts.rescue_trouble_text:
        yield Finding.error(
            facts.rescue_trouble_code or "FAILBACK-TARGET", facts.rescue_trouble_text
        )
    yield from facts.rescue_findings


def refuse_days(commit_days: int | None) -> str:
    """Return why this many days until the commit are not allowed; empty if they are."""
    if commit_days is None or 1 <= commit_days <= COMMIT_DAYS_LIMIT:
        return ""
    return f"A failback can be committed after 1 to {COMMIT_DAYS_LIMIT} days, not {commit_days}."


def refuse_core_failback(failed_over_count: int) -> str:
    return "" if failed_over_count else "None of its machines run at this site."


def refuse_machine_failback(replicated: ReplicatedMachine) -> str:
    machine = replicated.machine
    unsettled = settle_first(machine)
    if unsettled:
        return unsettled
    if machine.kind == MachineKind.PENDING_FAILBACK:
        return "A failback of this machine is in progress."
    if machine.kind == MachineKind.FAILED_BACK:
        return "This machine has already failed back. Commit it or roll it back."
    if machine.kind == MachineKind.PENDING_FAILOVER:
        return "A failover of this machine is in progress."
    if machine.kind != MachineKind.FAILED_OVER:
        return "This machine has not failed over."
    if not machine.is_owned_here:
        return f"{machine.owner_core_name} owns this machine, so this core cannot act on it."
    return ""
