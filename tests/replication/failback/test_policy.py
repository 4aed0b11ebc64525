"""What stands in the way of a failback: pure functions, facts in, findings out."""

from dataclasses import replace

import pytest

from console.findings import Finding, has_errors
from replication.failback.policy import FailbackFacts, check_machine, refuse_days

FACTS = FailbackFacts(
    name="db-01",
    kind="failed_over",
    kind_title="Failed over",
    is_owned_here=True,
    owner_core_name="DR site",
    source_name="Headquarters",
    is_agent_online=True,
    is_rescue_named=True,
)


def test_nothing_stops_a_machine_whose_rescue_machine_is_ready() -> None:
    assert check_machine(FACTS) == []


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        (replace(FACTS, kind="replicated"), "FAILBACK-NOT-FAILED-OVER"),
        (replace(FACTS, is_owned_here=False), "FAILBACK-NOT-FAILED-OVER"),
        (
            replace(FACTS, is_owned_here=False, owner_trouble_text="Disputed."),
            "FAILBACK-OWNER-UNSETTLED",
        ),
        (replace(FACTS, open_job_text="Export is under way."), "FAILBACK-JOB-OPEN"),
        (replace(FACTS, has_points=False), "FAILBACK-NO-POINT"),
        (replace(FACTS, is_agent_online=False), "FAILBACK-AGENT-AWAY"),
        (replace(FACTS, source_trouble_text="It is away."), "FAILBACK-SOURCE-AWAY"),
        (replace(FACTS, is_rescue_named=False), "FAILBACK-NO-TARGET"),
        (replace(FACTS, rescue_trouble_text="No answer."), "FAILBACK-TARGET"),
        (
            replace(
                FACTS,
                rescue_trouble_text="Wrong code.",
                rescue_trouble_code="AGENT-PAIRING-CODE-WRONG",
            ),
            "AGENT-PAIRING-CODE-WRONG",
        ),
        (
            replace(FACTS, rescue_findings=(Finding.error("AGENT-DISK-TOO-SMALL", "x"),)),
            "AGENT-DISK-TOO-SMALL",
        ),
    ],
)
def test_what_makes_it_impossible_is_an_error(facts: FailbackFacts, code: str) -> None:
    (finding,) = check_machine(facts)
    assert finding.code == code
    assert finding.is_error


def test_a_source_core_that_is_away_says_nothing_of_rescue_machines() -> None:
    away = replace(FACTS, source_trouble_text="It is away.", is_rescue_named=False)
    assert [finding.code for finding in check_machine(away)] == ["FAILBACK-SOURCE-AWAY"]


def test_a_base_image_is_a_warning_with_its_size() -> None:
    findings = check_machine(replace(FACTS, has_common_point=False, send_text="4.2 GiB"))
    assert [finding.code for finding in findings] == ["FAILBACK-NO-COMMON-POINT"]
    assert not has_errors(findings)
    assert "4.2 GiB" in findings[0].text


@pytest.mark.parametrize(("days", "is_refused"), [(0, True), (1, False), (90, False), (91, True)])
def test_the_days_until_the_commit_are_bounded(days: int, is_refused: bool) -> None:
    assert bool(refuse_days(days)) == is_refused
