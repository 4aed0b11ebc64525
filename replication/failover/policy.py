"""Decisions of replication and failover: plain facts in, plain findings out. No rows, no calls."""

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from console.findings import Finding, errors_first


def accepts_claim(
    owner_core_id: str, owner_epoch: int, claimant_core_id: str, claimed_epoch: int
) -> bool:
    """Tell whether a core that claims to own a machine is believed by another.

    It is, when this core knows it as the owner too, or when its epoch is the higher one: epochs
    only rise, so a higher one is newer knowledge.
    """
    return owner_core_id == claimant_core_id or claimed_epoch > owner_epoch


@dataclass(frozen=True)
class PointFacts:
    """What a failover must know of the recovery point chosen."""

    taken_at: datetime.datetime
    consistency: str = ""
    # Why its manifest cannot be read, in words; empty when it can.
    trouble_text: str = ""
    # What speaks against making a VM of it at all: `protected_machines.exports.plan_export`.
    export_findings: Sequence[Finding] = field(default_factory=tuple)


@dataclass(frozen=True)
class MachineFacts:
    """What a failover must know of the machine."""

    name: str
    kind: str
    kind_title: str
    owner_core_id: str
    owner_core_name: str
    source_core_id: str
    snapshot_interval_seconds: int
    has_agent_certificate: bool
    newest_taken_at: datetime.datetime | None
    behind_points: int = 0
    # What holds the machine now, in words; empty when nothing does.
    open_job_text: str = ""


@dataclass(frozen=True)
class SourceFacts:
    """What this core knows of the source core, and of itself."""

    name: str
    is_reachable: bool
    last_seen_at: datetime.datetime | None


@dataclass(frozen=True)
class DestinationFacts:
    """Where the machine is to run, as far as it could be looked at."""

    is_chosen: bool
    # Why vSphere could not be asked, in words; empty when it could.
    trouble_text: str = ""
    findings: Sequence[Finding] = field(default_factory=tuple)


_STALE_INTERVALS = 3
_STALE_AT_LEAST_SECONDS = 15 * 60
_UNFROZEN = ("crash", "not_guaranteed")


def plan_failover(
    machine: MachineFacts,
    point: PointFacts | None,
    source: SourceFacts,
    destination: DestinationFacts,
    now: datetime.datetime,
) -> list[Finding]:
    """Return what speaks against failing this machine over to this point and place.

    Errors come first. The same findings are shown before Continue and refuse it afterwards.
    """
    findings = [
        *_machine_findings(machine, source),
        *_point_findings(machine, point, now),
        *_destination_findings(destination),
    ]
    return errors_first(findings)


def _machine_findings(machine: MachineFacts, source: SourceFacts) -> Iterable[Finding]:
    if machine.kind != "replicated" or machine.owner_core_id != machine.source_core_id:
        yield Finding.error(
            "FAILOVER-NOT-REPLICATED",
            f"{machine.name} is not a replica now: it is {machine.kind_title.lower()} and belongs "
            f"to {machine.owner_core_name}.",
        )
    if machine.open_job_text:
        yield Finding.error("FAILOVER-JOB-OPEN", machine.open_job_text)
    if not machine.has_agent_certificate:
        yield Finding.error(
            "FAILOVER-NO-AGENT-CERTIFICATE",
            f"{source.name} never sent the certificate of {machine.name}'s agent, so this core "
            "could not recognise it. Its points can still be exported.",
        )
    if source.is_reachable:
        seen = f", last seen {ago(source.last_seen_at, None)}" if source.last_seen_at else ""
        yield Finding.warning(
            "FAILOVER-SOURCE-REACHABLE",
            f"{source.name} still answers{seen}. If {machine.name} still runs there, it will run "
            "twice: shut it down first. The source core will refuse to act on it from now on.",
        )


def _point_findings(
    machine: MachineFacts,
    point: PointFacts | None,
    now: datetime.datetime,
) -> Iterable[Finding]:
    if point is None:
        yield Finding.error(
            "FAILOVER-NO-POINT",
            f"No recovery point of {machine.name} has arrived here whole; nothing can be started.",
        )
        return
    if point.trouble_text:
        yield Finding.error(
            "FAILOVER-POINT-UNREADABLE", f"{point.trouble_text} Choose another one."
        )
    yield from point.export_findings
    if point.consistency in _UNFROZEN:
        yield Finding.warning(
            "FAILOVER-POINT-NOT-FROZEN",
            "The file systems were not frozen for this recovery point: it starts as after a power "
            "cut.",
        )
    yield from _age_findings(machine, point, now)


def _age_findings(
    machine: MachineFacts, point: PointFacts, now: datetime.datetime
) -> Iterable[Finding]:
    if machine.newest_taken_at is not None and point.taken_at < machine.newest_taken_at:
        newer = span((machine.newest_taken_at - point.taken_at).total_seconds())
        yield Finding.warning(
            "FAILOVER-POINT-NOT-NEWEST",
            f"A recovery point that is {newer} newer is here, but not chosen.",
        )
    elif machine.behind_points:
        count = machine.behind_points
        points = "1 newer recovery point" if count == 1 else f"{count} newer recovery points"
        yield Finding.warning(
            "FAILOVER-BEHIND",
            f"The source core had {points} that never arrived here; that data is lost to this "
            "failover.",
        )
    stale_seconds = max(
        machine.snapshot_interval_seconds * _STALE_INTERVALS, _STALE_AT_LEAST_SECONDS
    )
    age_seconds = (now - point.taken_at).total_seconds()
    if age_seconds > stale_seconds:
        yield Finding.warning(
            "FAILOVER-POINT-OLD",
            f"This recovery point is {span(age_seconds)} old, more than expected of a machine "
            f"that is protected every {span(machine.snapshot_interval_seconds)}.",
        )


def _destination_findings(destination: DestinationFacts) -> Iterable[Finding]:
    if destination.trouble_text:
        yield Finding.error("FAILOVER-VSPHERE", destination.trouble_text)
    elif not destination.is_chosen:
        yield Finding.error(
            "FAILOVER-NO-VCENTER",
            "No vCenter is known to this core. Add one under Settings, then come back.",
        )
    yield from destination.findings


def span(seconds: float) -> str:
    """Return a length of time in words, rounded to what a person cares for."""
    whole = int(max(0, seconds))
    for unit_seconds, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if whole >= unit_seconds * (1 if name == "minute" else 2) or (
            name == "hour" and whole >= unit_seconds
        ):
            count = round(whole / unit_seconds)
            return f"{count} {name}" if count == 1 else f"{count} {name}s"
    return "1 second" if whole == 1 else f"{whole} seconds"


def ago(then: datetime.datetime | None, now: datetime.datetime | None) -> str:
    """Return how long ago something was, in words."""
    if then is None:
        return "never"
    now = now or datetime.datetime.now(datetime.UTC)
    seconds = (now - then).total_seconds()
    return "just now" if seconds < 2 else f"{span(seconds)} ago"


@dataclass(frozen=True)
class FailbackFacts:
    """What a failback must know of one machine, as far as it could be looked at."""

    name: str
    kind: str
    kind_title: str
    is_owned_here: bool
    owner_core_name: str
    source_name: str
    is_agent_online: bool
    agent_trouble: str = ""
    open_job_text: str = ""
    # Why the source core could not be asked, in words; empty when it could.
    source_trouble_text: str = ""
    has_points: bool = True
    has_common_point: bool = True
    send_text: str = ""
    # Why the rescue machine cannot be used, in words; empty when it can, or is not named yet.
    target_trouble_code: str = ""
    target_trouble_text: str = ""
    is_target_named: bool = False
    target_findings: Sequence[Finding] = field(default_factory=tuple)


def plan_failback(facts: FailbackFacts) -> list[Finding]:
    """Return what speaks against the failback of one machine, errors first. Pure."""
    findings = [*_failback_machine_findings(facts), *_failback_source_findings(facts)]
    if not facts.source_trouble_text:
        findings += _failback_target_findings(facts)
    return errors_first(findings)


def _failback_machine_findings(facts: FailbackFacts) -> Iterable[Finding]:
    if facts.kind != "failed_over" or not facts.is_owned_here:
        yield Finding.error(
            "FAILBACK-NOT-FAILED-OVER",
            f"{facts.name} is {facts.kind_title.lower()} here and belongs to "
            f"{facts.owner_core_name}; only a machine that failed over to this core can go back.",
        )
    if facts.open_job_text:
        yield Finding.error("FAILBACK-JOB-OPEN", facts.open_job_text)
    if not facts.has_points:
        yield Finding.error(
            "FAILBACK-NO-POINT",
            f"No recovery point of {facts.name} is here; force a snapshot first.",
        )
    if not facts.is_agent_online:
        yield Finding.error(
            "FAILBACK-AGENT-AWAY",
            f"The agent of {facts.name} does not answer: {facts.agent_trouble or 'not seen yet'} "
            "Without it nothing can be frozen and taken.",
        )


def _failback_source_findings(facts: FailbackFacts) -> Iterable[Finding]:
    if facts.source_trouble_text:
        yield Finding.error("FAILBACK-SOURCE-AWAY", facts.source_trouble_text)
    elif facts.has_points and not facts.has_common_point:
        yield Finding.warning(
            "FAILBACK-NO-COMMON-POINT",
            f"{facts.source_name} holds no recovery point that the newest one builds on, so a base "
            f"image is sent: {facts.send_text}.",
        )


def _failback_target_findings(facts: FailbackFacts) -> Iterable[Finding]:
    if not facts.is_target_named:
        yield Finding.error(
            "FAILBACK-NO-TARGET",
            f"Start the machine at {facts.source_name} from the rescue medium, and type here the "
            "address and the code that it shows.",
        )
    elif facts.target_trouble_text:
        yield Finding.error(
            facts.target_trouble_code or "FAILBACK-TARGET", facts.target_trouble_text
        )
    yield from facts.target_findings
