"""The decisions: pure functions, facts in, findings out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from console.findings import Finding, Severity, has_errors
from console.wording import span
from replication.failover.policy import (
    ChosenPointFacts,
    DestinationFacts,
    MachineFacts,
    SourceFacts,
    check_machine,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
POINT = ChosenPointFacts(taken_at=NOW - timedelta(minutes=2), consistency="file_system")
MACHINE = MachineFacts(
    name="db-01",
    kind="replicated",
    kind_title="Replicated",
    owner_core_id="hq",
    owner_core_name="Headquarters",
    source_core_id="hq",
    snapshot_interval_seconds=3600,
    has_agent_certificate=True,
    newest_taken_at=POINT.taken_at,
)
SOURCE = SourceFacts("Headquarters", is_reachable=False, last_seen_at=NOW)
PLACE = DestinationFacts(is_chosen=True)


def plan(
    machine: MachineFacts = MACHINE,
    point: ChosenPointFacts | None = POINT,
    source: SourceFacts = SOURCE,
    place: DestinationFacts = PLACE,
) -> list[Finding]:
    return check_machine(machine, point, source, place, NOW)


def test_nothing_speaks_against_a_fresh_point_of_a_lost_site() -> None:
    assert plan() == []


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"machine": replace(MACHINE, kind="failed_over")}, "FAILOVER-NOT-REPLICATED"),
        ({"machine": replace(MACHINE, owner_core_id="dr")}, "FAILOVER-NOT-REPLICATED"),
        (
            # Says it once: what the machine is here does not matter until then.
            {"machine": replace(MACHINE, owner_core_id="dr", owner_trouble_text="Disputed.")},
            "FAILOVER-OWNER-UNSETTLED",
        ),
        ({"machine": replace(MACHINE, open_job_text="Export is under way.")}, "FAILOVER-JOB-OPEN"),
        (
            {"machine": replace(MACHINE, has_agent_certificate=False)},
            "FAILOVER-NO-AGENT-CERTIFICATE",
        ),
        ({"point": None}, "FAILOVER-NO-POINT"),
        ({"point": replace(POINT, trouble_text="Gone.")}, "FAILOVER-POINT-UNREADABLE"),
        (
            {
                "point": replace(
                    POINT, export_findings=(Finding.error("EXPORT-POINT-DAMAGED", "x"),)
                )
            },
            "EXPORT-POINT-DAMAGED",
        ),
        ({"place": DestinationFacts(is_chosen=False)}, "FAILOVER-NO-VCENTER"),
        ({"place": DestinationFacts(True, "It is away.")}, "FAILOVER-VSPHERE"),
        (
            {"place": DestinationFacts(True, findings=(Finding.error("VSPHERE-NAME-TAKEN", "x"),))},
            "VSPHERE-NAME-TAKEN",
        ),
    ],
)
def test_what_makes_it_impossible_is_an_error(facts: dict[str, object], code: str) -> None:
    findings = plan(**facts)  # type: ignore[arg-type]
    assert [finding.code for finding in findings if finding.is_error] == [code]


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"source": replace(SOURCE, is_reachable=True)}, "FAILOVER-SOURCE-REACHABLE"),
        ({"point": replace(POINT, consistency="crash")}, "FAILOVER-POINT-NOT-FROZEN"),
        ({"point": replace(POINT, is_newest=False)}, "FAILOVER-POINT-NOT-NEWEST"),
        (
            {"point": replace(POINT, taken_at=NOW + timedelta(minutes=10))},
            "FAILOVER-POINT-AHEAD",
        ),
        ({"machine": replace(MACHINE, behind_points=2)}, "FAILOVER-BEHIND"),
        (
            {
                "machine": replace(MACHINE, newest_taken_at=NOW - timedelta(hours=4)),
                "point": replace(POINT, taken_at=NOW - timedelta(hours=4)),
            },
            "FAILOVER-POINT-OLD",
        ),
    ],
)
def test_what_a_person_must_weigh_is_a_warning(facts: dict[str, object], code: str) -> None:
    findings = plan(**facts)  # type: ignore[arg-type]
    assert [finding.code for finding in findings] == [code]
    assert not has_errors(findings)


def test_errors_come_before_warnings() -> None:
    point = replace(POINT, consistency="crash", export_findings=(Finding.error("A", "x"),))
    findings = plan(
        source=replace(SOURCE, is_reachable=True),
        point=point,
        place=DestinationFacts(True, findings=(Finding.warning("B", "x"), Finding.error("C", "x"))),
    )
    severities = [finding.severity for finding in findings]
    assert severities == sorted(severities)
    assert severities[:2] == [Severity.ERROR, Severity.ERROR]


def test_every_text_is_a_sentence() -> None:
    worst = plan(
        machine=replace(MACHINE, kind="failed_over", behind_points=3, has_agent_certificate=False),
        source=replace(SOURCE, is_reachable=True),
        point=replace(POINT, consistency="crash", taken_at=NOW - timedelta(days=3)),
        place=DestinationFacts(is_chosen=False),
    )
    assert len(worst) >= 6
    assert all(finding.text.endswith(".") for finding in worst)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (150, "2 minutes"),
        (3600, "1 hour"),
        (47 * 3600, "47 hours"),
        (3 * 86400, "3 days"),
    ],
)
def test_a_length_of_time_is_rounded_to_what_matters(seconds: int, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("newest_taken_at", "newer"),
    [
        (NOW - timedelta(minutes=1), "that is 1 minute newer"),
        # By clocks of which one is wrong: nobody knows by how much.
        (NOW + timedelta(hours=9), "that is newer"),
        (NOW - timedelta(hours=9), "that is newer"),
    ],
)
def test_how_much_newer_a_point_is_is_told_only_if_it_is_known(
    newest_taken_at: datetime, newer: str
) -> None:
    machine = replace(MACHINE, newest_taken_at=newest_taken_at)
    (finding,) = plan(machine=machine, point=replace(POINT, is_newest=False))
    assert finding.text == f"A recovery point {newer} is available but not selected."
